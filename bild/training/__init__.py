"""Training: from a corpus to a model, a smaller one aligned to it, or one with early exits; resumable to the step."""
