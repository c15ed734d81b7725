//! Against a provider of our own over real HTTP, which can be made to lie.
