"""Operations on model services, their models and their generations: one module a noun."""
