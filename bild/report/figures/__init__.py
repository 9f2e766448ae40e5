"""The figures of a section, a module each: a function that draws, and the words that go with it."""
