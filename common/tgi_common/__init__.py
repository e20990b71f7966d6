"""What all three processes need: logging, options, process rules, model files."""
