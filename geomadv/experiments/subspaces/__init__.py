"""What growing subspaces of curved, flat or singular directions carry."""
