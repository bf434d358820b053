"""OPC UA: a connection, subscribed tags and written answers."""
