"""The counting consumers in a world without servers: what may happen to them happens, by a seed, in no time."""
