"""What stands around the call to a provider, one small file each."""
