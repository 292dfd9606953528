"""What holds the runs that are kept against what happened."""

from hitparade.commands.declaring import Commands

MORE = (
    "Alone it lists the runs that are kept. One run is judged by the plays that happened over the span, once its "
    "week has closed. Of two, the first is judged as if the second's ranking were the true one; what needs plays "
    "(NDCG, captured plays) is then the first's of what happened, as a share of the second's."
)


def declare(commands: Commands) -> None:
    """One run, or two."""
    compare = commands.add(
        "compare",
        "comparing.compare",
        "a kept run against what happened or another; alone, those kept",
        json="one object a run; of one that is judged, with its metrics",
        more=MORE,
        examples=(
            "compare",
            "compare 2025-W11/1/treatment",
            "compare 2025-W11/1/treatment 2025-W11/1/control",
        ),
    )
    compare.add_argument(
        "runs", nargs="*", metavar="RUN", help="WEEK/REVISION/GROUP; the week is the one that the list is for"
    )
    span = compare.add_mutually_exclusive_group()
    span.add_argument(
        "--span",
        type=int,
        choices=range(1, 6),
        metavar="N",
        help="rank, and judge, by the week to come and the N - 1 before it (HITPARADE_LIST_SPAN_WEEKS, as lists do); "
        "1 is the forecast alone",
    )
    span.add_argument(
        "--study",
        action="store_true",
        help="rank as the original study did: a neural run by its prediction and the last three weeks (as --span 4), a "
        "linear one by its prediction and all four (as --span 5); what happened is over the same weeks",
    )
