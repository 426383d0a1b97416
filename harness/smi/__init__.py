"""The Smart Metering Inventory and its rules: pure; knows no radio, no member and no database."""
