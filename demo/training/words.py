"""The word lists the generated text is made of."""


def listed(*lines: str) -> list[str]:
    """The words of some lines."""
    return " ".join(lines).split()


COLORS = listed("red green blue yellow purple orange black white brown pink gray silver gold")
ANIMALS = listed("fox cat dog bear mouse rabbit owl horse duck frog lion turtle bird wolf goat bee")
THINGS = listed(
    "apple tree river house stone lamp chair book boat door cup window garden bridge train road cloud",
    "star moon sun rain snow wind fire water bread cheese soup cake shoe hat coat ball kite bell drum",
    "clock table spoon plate key box ring map rope leaf flower hill lake sea island city school market",
)
QUALITIES = listed(
    "small big old young quick slow happy sad brave quiet loud warm cold bright dark kind clever tiny soft"
)
VERBS = listed("run walk sing jump sleep read write play cook swim fly talk listen paint build dance")
NAMES = listed("Anna Ben Clara David Emma Felix Grace Henry Ida Jonas Lena Max Nora Oscar Paula Sam Tom Vera")
CITIES = listed(
    "Paris London Berlin Madrid Rome Vienna Oslo Lisbon Dublin Prague Athens Warsaw Tokyo Delhi Cairo",
    "Lima Boston Chicago Sydney Toronto Nairobi Seoul Zurich Amsterdam Stockholm Helsinki Barcelona Munich",
)
LANGUAGES = listed("French German Spanish Italian Polish Dutch Greek Turkish Japanese Portuguese")
# Ranges of characters of 2, 3 and 4 bytes: the model learns to copy bytes, and detokenizers meet them.
SCRIPTS = (
    (0xE0, 0xF6),  # Latin letters with accents
    (0x3B1, 0x3C9),  # Greek
    (0x430, 0x44F),  # Cyrillic
    (0x4E00, 0x9FA5),  # Chinese
    (0xAC00, 0xD7A3),  # Korean
    (0x1F300, 0x1F5FF),  # symbols and pictographs
    (0x1F600, 0x1F64F),  # faces
)
SYLLABLES = listed(
    "ba be bi bo da de do fa fi ga go ka ke ki la le li lo ma me mi mo na ne no pa pi ra re ri ro sa se",
    "ta ti to va vi za zo",
)

WORDS = COLORS + ANIMALS + THINGS + QUALITIES + VERBS
