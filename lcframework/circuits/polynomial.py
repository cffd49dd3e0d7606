"""Polynomials with whole coefficients in named variables: depths, and sizes as functions of n."""

from collections.abc import Mapping
from dataclasses import dataclass

Monomial = tuple[tuple[str, int], ...]
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Polynomial:
    """A sum of monomials with non-negative whole coefficients.

    Attributes:
        terms: coefficient of each monomial, a sorted tuple of (variable, power).
    """

    terms: tuple[tuple[Monomial, int], ...] = ()

    @classmethod
    def of(cls, terms: Mapping[Monomial, int]) -> "Polynomial":
        """From coefficients; zeros are dropped."""
        return cls(tuple(sorted((m, c) for m, c in terms.items() if c)))

    def __add__(self, other: "Polynomial | int") -> "Polynomial":
        total = dict(self.terms)
        for monomial, coefficient in as_polynomial(other).terms:
            total[monomial] = total.get(monomial, 0) + coefficient
        return Polynomial.of(total)

    __radd__ = __add__

    def __mul__(self, other: "Polynomial | int") -> "Polynomial":
        total: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in as_polynomial(other).terms:
                powers = dict(m1)
                for variable, power in m2:
                    powers[variable] = powers.get(variable, 0) + power
                monomial = tuple(sorted(powers.items()))
                total[monomial] = total.get(monomial, 0) + c1 * c2
        return Polynomial.of(total)

    __rmul__ = __mul__

    @property
    def variables(self) -> frozenset[str]:
        """Variables that occur."""
        return frozenset(variable for monomial, _ in self.terms for variable, _ in monomial)

    def degree(self, variable: str) -> int:
        """The highest power of a variable."""
        return max((dict(monomial).get(variable, 0) for monomial, _ in self.terms), default=0)

    def coefficients(self) -> dict[str, int]:
        """Coefficients by monomial written as `n^2*s_std`; the constant is "1"."""
        return {
            "*".join(v if p == 1 else f"{v}^{p}" for v, p in monomial) or "1": coefficient
            for monomial, coefficient in self.terms
        }

    def substitute(self, values: Mapping[str, "Polynomial | int"]) -> "Polynomial":
        """With some variables replaced."""
        total = Polynomial()
        for monomial, coefficient in self.terms:
            product = as_polynomial(coefficient)
            for variable, power in monomial:
                for _ in range(power):
                    product = product * as_polynomial(values.get(variable, var(variable)))
            total = total + product
        return total

    def number(self) -> int | None:
        """The value if no variable is left, else None."""
        if self.variables:
            return None
        return sum(coefficient for _, coefficient in self.terms)

    def text(self, names: Mapping[str, str] | None = None) -> str:
        """As plain text, for example `7 d_std + n² s_exp`; terms in the order of `names`."""
        names = names or {}
        return self._write(names, "{c} {m}", "{v}", lambda p: str(p).translate(SUPERSCRIPTS), "")

    def latex(self, names: Mapping[str, str] | None = None) -> str:
        """As LaTeX, without dollar signs."""
        names = names or {}
        return self._write(names, r"{c}\,{m}", "{v}", lambda p: f"^{{{p}}}", r"\,")

    def _write(self, names, with_coefficient, variable_form, power_form, glue) -> str:
        order = {variable: rank for rank, variable in enumerate(names)}

        def rank(term: tuple[Monomial, int]):
            monomial, _ = term
            known = [(order.get(v, len(order)), v, -p) for v, p in monomial]
            return (not monomial, sorted(known))

        parts = []
        for monomial, coefficient in sorted(self.terms, key=rank):
            factors = sorted(monomial, key=lambda vp: (order.get(vp[0], len(order)), vp[0]))
            written = (glue or " ").join(
                variable_form.format(v=names.get(v, v)) + (power_form(p) if p > 1 else "")
                for v, p in factors
            )
            if not monomial:
                parts.append(f"{coefficient:,}")
            elif coefficient == 1:
                parts.append(written)
            else:
                parts.append(with_coefficient.format(c=f"{coefficient:,}", m=written))
        return " + ".join(parts) or "0"


def var(name: str) -> Polynomial:
    """A variable."""
    return Polynomial((((((name, 1),)), 1),))


def as_polynomial(value: "Polynomial | int") -> Polynomial:
    """A whole number as a constant polynomial."""
    if isinstance(value, Polynomial):
        return value
    return Polynomial.of({(): value})


def upper_bound(*choices: Polynomial) -> Polynomial:
    """A polynomial no smaller than any choice where all variables are non-negative: the largest
    coefficient of each monomial. It is the maximum itself if one choice has them all."""
    total: dict[Monomial, int] = {}
    for choice in choices:
        for monomial, coefficient in choice.terms:
            total[monomial] = max(total.get(monomial, 0), coefficient)
    return Polynomial.of(total)
