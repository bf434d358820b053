"""What a hub can be asked, one file a resource: as `muster` names it, so does Python."""
