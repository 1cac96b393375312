"""What the transparency report of February 2021 should say, from the scenario's lists and verdicts alone.

february.py SCENARIO MONTHS...: the counts that are not 0, by territory, of orders received in these months, as JSON.
Shares nothing with the service: knows the lists, the links in them, the protected accounts, and what was done by day.
"""

import collections
import csv
import json
import pathlib
import re
import sys

ACCOUNT = re.compile(r"https://twitter\.com/intent/user\?user_id=(\d+)")
POST = re.compile(r"https://twitter\.com/i/web/status/(\d+)")


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def named(items):
    """Accounts, posts, and how many lines name neither."""
    accounts, posts, unresolved = set(), set(), 0
    for item in items:
        kind, locator = item["locator_type"], item["locator"]
        account, post = ACCOUNT.fullmatch(locator), POST.fullmatch(locator)
        if kind == "account_id":
            accounts.add(locator)
        elif kind == "url" and account:
            accounts.add(account[1])
        elif kind == "url" and post:
            posts.add(post[1])
        else:
            unresolved += 1
    return accounts, posts, unresolved


def main(directory, *months):
    directory = pathlib.Path(directory)
    protected = {row["account_id"]: row["category"] for row in rows(directory / "protected-accounts.csv")}
    verdicts = rows(directory / "expected.csv")
    last = [row for row in verdicts if row["at"] == "2021-02-10T12:00:00Z"]
    dark_in_india = {row["account_id"] for row in last if row["withheld_in_IN"] == "true"}
    dark_everywhere = {row["account_id"] for row in last if row["withheld_in_US"] == "true"}

    demands = [
        ("2021-01", "emergency_interim_orders", "in-2021-01-31-emergency.items.csv", True),
        ("2021-02", "executive_orders", "in-2021-02-04.items.csv", False),
    ]
    india, ever, still = collections.Counter(), set(), set()
    accounts, posts = set(), set()
    for month, instrument, file, lifted in demands:
        if month not in months:
            continue
        its_accounts, its_posts, unresolved = named(rows(directory / file))
        india["orders_received"] += 1
        india["orders_with_content_withheld"] += 1
        india[instrument] += 1
        india["items_unresolved"] += unresolved
        withheld = {account for account in its_accounts if account not in protected}
        accounts |= its_accounts
        ever |= withheld
        if lifted:
            india["posts_restored"] += len(its_posts)
        else:
            still |= withheld
            # What an order in force withholds is what viewers in India do not see at the end.
            assert withheld == dark_in_india
        posts |= its_posts
    india["accounts_specified"] = len(accounts)
    india["accounts_withheld"] = len(ever)
    india["accounts_still_withheld"] = len(still)
    india["accounts_restored"] = len(ever - still)
    for account in accounts - ever:
        india["accounts_declined_" + protected[account]] += 1
    india["accounts_also_removed_own_rules"] = len(accounts & dark_everywhere)
    india["posts_specified"] = india["posts_withheld"] = len(posts)

    report = {"IN": {column: count for column, count in india.items() if count}}
    if "2021-02" in months:
        removed, _, _ = named(rows(directory / "own-rules-2021-02-10.items.csv"))
        assert removed == dark_everywhere
        report["XX"] = {"own_rules_decisions": 1, "accounts_removed_own_rules": len(removed)}
    print(json.dumps({territory: counts for territory, counts in report.items() if counts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
