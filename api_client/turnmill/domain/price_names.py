"""What a name in an operator's list of prices stands for."""

from fnmatch import fnmatchcase


def names_model(pattern: str, provider: str, model: str) -> bool:
    """Tell whether `pattern` is of the model: provider/model, in which * stands for anything.

    That alone does: some names of models have brackets and question marks in them.
    """
    literal = pattern.replace("[", "[[]").replace("?", "[?]")
    return fnmatchcase(f"{provider}/{model}", literal)
