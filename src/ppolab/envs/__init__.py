"""Vector environments: EnvPool and Gymnasium behind one interface."""
