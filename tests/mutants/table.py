"""All mutants by name."""

from tests.mutants.breaking import Mutant
from tests.mutants.mutants import MUTANTS as OF_THE_PROTOCOL
from tests.mutants.of_batches import OF_BATCHES
from tests.mutants.of_budgets import OF_BUDGETS
from tests.mutants.of_fairness import OF_FAIRNESS
from tests.mutants.of_fallback import OF_FALLBACK
from tests.mutants.of_figures import OF_FIGURES
from tests.mutants.of_limits import OF_LIMITS
from tests.mutants.of_steps import OF_STEPS
from tests.mutants.of_threads import OF_THREADS

MUTANTS: dict[str, Mutant] = {
    **OF_THE_PROTOCOL,
    **OF_BATCHES,
    **OF_BUDGETS,
    **OF_FAIRNESS,
    **OF_FALLBACK,
    **OF_FIGURES,
    **OF_LIMITS,
    **OF_STEPS,
    **OF_THREADS,
}
