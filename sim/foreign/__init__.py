"""Tasks of other projects: Gymnasium ids, a user's own environments, EnvPool's ports. Loads neither torch nor them."""
