"""A list of contents that leads to every heading, and figures in the page's colours."""

import re

from hypothesis import given
from hypothesis import strategies as st

from fusion.reports.page.frame import CONTENTS, with_contents, with_page_colours


@given(st.lists(st.sampled_from(["Notes", "A & B", "<b>", "of 3 (or 4)", "notes", "  x "]), max_size=6))
def test_every_heading_is_reached_from_the_contents(headings):
    from html import escape

    page = with_contents(CONTENTS + "".join(f"<h2>{escape(words)}</h2><p>text</p>" for words in headings))
    ids = re.findall(r'<h2 id="([^"]*)">', page)
    assert len(set(ids)) == len(headings)
    assert re.findall(r'<a href="#([^"]*)">', page) == ids


def test_ink_and_paper_follow_the_page_and_other_colours_stay():
    svg = '<path style="fill: #ffffff; stroke: #000000"/><path style="fill: #0072b2"/>'
    assert with_page_colours(svg) == (
        '<path style="fill: var(--paper); stroke: var(--ink)"/><path style="fill: #0072b2"/>'
    )
