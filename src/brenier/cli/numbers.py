"""Numbers that an option takes as a list."""


def read_numbers(text: str, option: str) -> list[float]:
    """The numbers in "1,2,5", which must differ.

    Raises:
        ValueError: a field is not a number, or a number is given twice.
    """
    numbers: list[float] = []
    for field in text.split(","):
        try:
            number = float(field)
        except ValueError:
            raise ValueError(f"{option} {text!r}: {field!r} is not a number: separate numbers by commas") from None
        if number in numbers:
            raise ValueError(f"{option} {text!r} holds {field.strip()} twice: give each number once")
        numbers.append(number)
    return numbers
