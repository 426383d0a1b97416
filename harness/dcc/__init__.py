"""What carries Service Requests to a hub and brings the answers back: emulated, or by an operator's hands."""
