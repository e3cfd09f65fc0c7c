"""An HTTP/1.1 client for calls that wait for seconds: small, bounded; it knows no vendors."""
