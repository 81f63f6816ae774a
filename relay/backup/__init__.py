"""One consistent cut of all stores and the keyring in one encrypted file, and the way back."""
