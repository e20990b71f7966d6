"""What a request may ask for: TGI's rules in TGI's order, and those for what TGI does not know."""
