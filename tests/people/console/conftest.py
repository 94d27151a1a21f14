"""The contributors of the guards' tests."""

from tests.contributors.conftest import ada, ben, essays, reprints

__all__ = ["ada", "ben", "essays", "reprints"]
