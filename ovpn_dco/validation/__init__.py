"""What is refused, with which errno and in which words. No state, no descriptor, no engine."""
