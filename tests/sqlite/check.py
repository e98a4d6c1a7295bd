"""Checks files of keys, knowing nothing of Keyward's code: what its tables say of one another, and of what was acknowledged.

    python3 check.py FILE JOURNAL
    python3 check.py < LINES

The journal has a line for each thing that was acknowledged, as src/bin/crash_program.rs writes them. Where no file is named,
each line that is read names a file and its journal, with a tab between them. Answers each with one line: "ok" and how
much there was of what, or "no" and what does not hold.
"""

import hashlib
import json
import sqlite3
import struct
import sys
import uuid
from collections import Counter, defaultdict
from pathlib import Path

FEED_KEEPS = 65_536
NEWS = {"inserted", "replaced", "revoked", "cut_off"}
faults = []
db = None


def check(holds, text):
    if not holds:
        faults.append(text)


def unfinished(path):
    """How many frames at the end of the write-ahead log belong to no commit (sqlite.org/fileformat.html#walformat)."""
    try:
        log = Path(path + "-wal").read_bytes()
    except FileNotFoundError:
        return 0
    if len(log) < 32:
        return 0
    page, _, salts = struct.unpack(">8xII8s", log[:24])
    after_commit = 0
    for start in range(32, len(log), 24 + page):
        frame = log[start : start + 24]
        if len(frame) < 24 or frame[8:16] != salts:
            break  # of an earlier time
        after_commit = 0 if frame[4:8] != bytes(4) else after_commit + 1
    return after_commit


def name(blob):
    return str(uuid.UUID(bytes=blob))


def rows(sql):
    return [dict(row) for row in db.execute(sql)]


def check_counters():
    (meta,) = rows("SELECT * FROM keyward_meta")
    check(meta["schema_version"] == 1, f"schema {meta['schema_version']}")
    places = defaultdict(list)
    for row in rows("SELECT position, place FROM keyward_feed ORDER BY position, place"):
        places[row["position"]].append(row["place"])
    first = max(meta["position"] - FEED_KEEPS, 0) + 1
    check(list(places) == list(range(first, meta["position"] + 1)), "positions of the feed have gaps, or do not end where they should")
    for position, of in places.items():
        check(of == list(range(len(of))), f"position {position} is told of in places {of}")
    # Each position was handed out to one commit, which remembers as much news as the feed tells.
    news = defaultdict(list)
    for row in rows("SELECT committed FROM keyward_commits"):
        committed = json.loads(row["committed"])
        of = sum(1 for outcome in committed["outcomes"] if outcome["type"] in NEWS)
        if of:
            news[committed["position"]].append(of)
        else:
            check(committed["position"] <= meta["position"], f"a commit is ahead: {committed}")
    check(sorted(news) == list(range(1, meta["position"] + 1)), "commits and positions differ")
    for position, of in places.items():
        check(news[position] == [len(of)], f"position {position} has {len(of)} news, and its commits {news[position]}")
    return meta


def check_chain(meta):
    head, number, events = bytes(32), 0, []
    for row in rows("SELECT * FROM keyward_events ORDER BY number"):
        number += 1
        check(row["number"] == number, f"event {number} is not there: {row['number']}")
        covered = b"keyward/event/v1" + struct.pack(">Q", number) + head + row["event"].encode()
        check(row["hash"] == hashlib.sha256(covered).digest(), f"the chain breaks at event {number}")
        head, event = row["hash"], json.loads(row["event"])
        check(row["tenant"] == event["tenant"], f"event {number} is filed under {row['tenant']}")
        events.append(event)
    check(meta["events"] == number, f"{number} events, and {meta['events']} counted")
    check(meta["head"] == head, "the chain does not end in the head")
    return events


def check_events(events, keys):
    """Each piece of news has its event, in the same order; each key is what its events make of it."""
    feed = rows("SELECT position, news FROM keyward_feed ORDER BY position, place")
    if len(feed) < FEED_KEEPS:
        check(len(feed) == len(events), f"{len(events)} events of {len(feed)} news")
    at, revisions = {}, Counter()
    recent = len(events) - len(feed)
    histories = defaultdict(list)
    for number, event in enumerate(events):
        if event["action"] == "keys_cut_off":
            expected = {"type": "cutoff", "scope": "tenant " + event["tenant"]}
        else:
            revisions[event["key"]] += 1
            histories[event["key"]].append(event)
            expected = {"type": "key", "id": event["key"], "revision": revisions[event["key"]]}
        if 0 <= number - recent < len(feed):
            told = feed[number - recent]
            at[number] = told["position"]
            check(json.loads(told["news"]) == expected, f"event {number + 1} and the feed differ: {told['news']}")

    successors = set()
    for number, event in enumerate(events):
        if event["action"] != "key_rotated":
            continue
        old, heir = event["key"], next(change["to"] for change in event["changes"] if change["field"] == "successor")
        successors.add(heir)
        check(heir in keys and keys[heir]["predecessor"] == old, f"{old} was rotated, and {heir} is not its successor")
        before = events[number - 1]
        check((before["action"], before["key"]) == ("key_issued", heir), f"{heir} was not issued where {old} was rotated")
        check(at.get(number) == at.get(number - 1), f"{old} and {heir} were changed in two commits")
        if {"field": "overlap_ends", "from": None, "to": event["at"]} in event["changes"]:
            after = events[number + 1] if number + 1 < len(events) else {"action": None, "key": None}
            check((after["action"], after["key"]) == ("key_revoked", old), f"{old} was not revoked where it was rotated away")
            check(at.get(number) == at.get(number + 1), f"{old} was rotated away in two commits")

    for id, history in histories.items():
        check(id in keys, f"events tell of {id}, which is not there")
    for id, key in keys.items():
        actions = Counter(event["action"] for event in histories[id])
        check(actions["key_issued"] == 1, f"{id} was issued {actions['key_issued']} times")
        check(actions["key_revoked"] == (key["revoked_at"] is not None), f"{id} was revoked {actions['key_revoked']} times")
        check(key["revision"] == len(histories[id]), f"{id} has revision {key['revision']} and {len(histories[id])} events")
        rotated = [event for event in histories[id] if event["action"] == "key_rotated"]
        rotation = json.loads(key["document"])["rotation"]
        check((rotation is not None) == bool(rotated), f"{id} has a successor or has not")
        if rotation and rotated:
            told = next(change["to"] for change in rotated[-1]["changes"] if change["field"] == "successor")
            check(rotation["successor"] == told, f"{id} names another successor than its event")
        if key["predecessor"] is not None:
            check(id in successors, f"{id} has a predecessor that was not rotated")
            older = keys.get(key["predecessor"], {})
            check(older.get("tenant") == key["tenant"] and older.get("lineage") == key["lineage"], f"{id} is of another line")


def check_journal(journal, keys, events):
    rotated = {
        (event["key"], change["to"])
        for event in events
        if event["action"] == "key_rotated"
        for change in event["changes"]
        if change["field"] == "successor"
    }
    acknowledged, issued = 0, set()
    for line in Path(journal).read_text().splitlines():
        match line.split():
            case ["issued", id]:
                issued.add(id)
                check(id in keys, f"{id} was issued and is gone")
            case ["revoked", id, at]:
                check(id in keys and keys[id]["revoked_at"] == int(at), f"{id} was revoked at {at} and is not")
            case ["rotated", old, heir, at, ends]:
                issued.add(heir)
                check(old in keys and heir in keys and keys[heir]["predecessor"] == old, f"{old} was given {heir}, which is gone")
                check((old, heir) in rotated, f"the rotation of {old} to {heir} is gone")
                ended = old in keys and (keys[old]["revoked_at"], keys[old]["revoke_reason"]) == (int(at), "rotated")
                check(ends != "none" or ended, f"{old} was rotated away and is not revoked")
            case ["swept", tenant, before]:
                (cutoff,) = db.execute("SELECT max(instant) FROM keyward_cutoffs WHERE scope = ?", ["tenant " + tenant]).fetchone()
                check(cutoff is not None and cutoff >= int(before), f"{tenant} was cut off and is not")
                for id, key in keys.items():
                    if key["tenant"] == tenant and key["created_at"] < int(before):
                        check(key["revoked_at"] is not None, f"{id} was swept and is not revoked")
            case ["opened"]:
                continue
            case _:
                check(False, f"not a line of a journal: {line}")
        acknowledged += 1
    return acknowledged, len(set(keys) - issued)


def check_lists():
    """The lists' indexes hold what the table holds."""
    for index, condition in (("live", "IS NULL"), ("revoked", "IS NOT NULL")):
        where = f"WHERE revoked_position {condition} ORDER BY id"
        listed = db.execute(f"SELECT id FROM keyward_keys INDEXED BY keyward_keys_{index} {where}").fetchall()
        there = db.execute(f"SELECT id FROM keyward_keys NOT INDEXED {where}").fetchall()
        check([*map(tuple, listed)] == [*map(tuple, there)], f"the list of {index} keys has {len(listed)} of {len(there)}")
    (filed,) = db.execute(
        "SELECT count(*) FROM keyward_events INDEXED BY keyward_events_tenant WHERE tenant IS NOT NULL"
    ).fetchone()
    (there,) = db.execute("SELECT count(*) FROM keyward_events NOT INDEXED WHERE tenant IS NOT NULL").fetchone()
    check(filed == there, f"{filed} of {there} events are filed by tenant")


def examine(path, journal):
    """One line that says whether all holds."""
    global db
    faults.clear()
    torn = unfinished(path)
    db = sqlite3.connect(f"file:{path}?mode=rw", uri=True)
    db.row_factory = sqlite3.Row
    try:
        db.execute("BEGIN")
        check([row[0] for row in db.execute("PRAGMA integrity_check")] == ["ok"], "SQLite finds the file damaged")
        meta = check_counters()
        events = check_chain(meta)
        keys = {name(row["id"]): row for row in rows("SELECT * FROM keyward_keys")}
        for key in keys.values():
            for column in ("predecessor", "lineage"):
                key[column] = key[column] and name(key[column])
            check(key["revoked_position"] is None or key["revoked_position"] <= meta["position"], "a key is ahead")
        check_events(events, keys)
        acknowledged, unheard = check_journal(journal, keys, events)
        check_lists()
        db.execute("ROLLBACK")
    except Exception as error:  # of a file in which something is not as it has to be
        check(False, f"{type(error).__name__}: {error}")
    finally:
        db.close()
    if faults:
        return "no " + "; ".join(faults[:20])
    counts = f"positions={meta['position']} events={meta['events']} keys={len(keys)}"
    return f"ok {counts} acknowledged={acknowledged} unheard={unheard} torn={torn}"


if len(sys.argv) == 3:
    answer = examine(*sys.argv[1:])
    print(answer)
    sys.exit(not answer.startswith("ok"))
for line in sys.stdin:
    print(examine(*line.rstrip("\n").split("\t")), flush=True)
