"""Input of fuzzed readers: changed files, and values of any shape."""

from hypothesis import strategies as st

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mangled(draw: st.DrawFn, whole: bytes) -> bytes:
    """``whole`` with a part of it changed, cut off, doubled or put in; or something else altogether."""
    start = draw(st.integers(0, len(whole)))
    stop = min(len(whole), start + draw(st.integers(0, 40)))
    put = draw(st.binary(max_size=12) | st.text(max_size=8).map(str.encode) | st.just(b"9" * 400))
    ways = {
        "change": whole[:start] + put + whole[stop:],
        "flip": whole[:start] + bytes(255 - each for each in whole[start:stop]) + whole[stop:],
        "cut": whole[:start],
        "double": whole[:stop] + whole[start:],
        "other": put,
        "deep": b"[" * 1200,
        "nothing": b"",
    }
    return ways[draw(st.sampled_from(sorted(ways)))]
