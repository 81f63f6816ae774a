class Resolver: pass
