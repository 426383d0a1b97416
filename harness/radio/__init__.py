"""Carries a member's behaviour over an NCP. Only this package knows bellows, zigpy's application and serialx."""
