"""What the hub signs: the catalogue of releases (TUF) and the devices' directives (DSSE)."""
