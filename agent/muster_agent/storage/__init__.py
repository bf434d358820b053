"""What must survive a power cut: files, state, content, pointers, locks."""
