"""The contributor's side of this app: entrance, works, consent. Other apps take the guard from here."""
