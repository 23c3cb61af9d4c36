"""The commands: what each of them asks for, and what it prints."""
