"""What a user writes: read, merged, checked, and locked for a repetition."""
