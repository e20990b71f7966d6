"""The bundled demo model: where it lies. Importing this loads nothing else."""

from pathlib import Path

MODEL_PATH: Path = Path(__file__).parent / "model"
"""A folder in the Hugging Face layout: config, bf16 safetensors, tokenizer and chat template."""
