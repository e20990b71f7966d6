"""What quantized weights cost in quality: logits, greedy texts and right answers, beside float32."""
