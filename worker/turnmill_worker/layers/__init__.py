"""What stands around the call to a provider, one small file each: `call` says what a layer is."""
