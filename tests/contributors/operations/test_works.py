"""Registering works: the refusals, the stored rows, the copies found."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import Error, connection, transaction
from PIL import Image

from contributors import fingerprints
from contributors.models import PPB, Contributor, Dataset, DuplicatePair, FingerprintBand, Work
from contributors.operations import contents
from contributors.operations import works as operations
from contributors.operations.people import register_holder
from contributors.operations.works import (
    NewWork,
    UnableToRegisterDataset,
    UnableToRegisterWorks,
    register_dataset,
    register_works,
)
from contributors.queries import works as works_queries
from contributors.queries.contents import DamagedContent
from tests.worlds import people

pytestmark = pytest.mark.django_db
MIB = 1024 * 1024


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that claims `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bmp() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, "BMP")
    return file.getvalue()


def test_a_dataset_is_named_once_by_a_contributor(ada: Contributor, ben: Contributor, at: datetime) -> None:
    people.dataset(ada, at)
    people.dataset(ben, at)
    with pytest.raises(UnableToRegisterDataset, match="already a dataset named “Essays”"):
        people.dataset(ada, at)


@pytest.mark.parametrize(
    ("name", "licence", "said"), [(" ", "CC0", "name"), ("N", "", "licence"), ("x" * 201, "y", "name")]
)
def test_a_dataset_needs_a_name_and_a_licence(
    name: str, licence: str, said: str, ada: Contributor, at: datetime
) -> None:
    with pytest.raises(UnableToRegisterDataset, match=said):
        register_dataset(contributor=ada, name=name, description="", licence=licence, at=at)


def test_a_work_is_stored_under_its_digest_and_read_back(essays: Dataset, at: datetime, data_directory: Path) -> None:
    (work,) = register_works(
        dataset=essays, works=[NewWork("  On rivers ", "text", "Ποταμός".encode(), date(2020, 2, 29))], at=at
    )
    assert work.title == "On rivers"
    assert work.holder == essays.contributor.holders.get()
    assert works_queries.content(work) == "Ποταμός".encode()
    assert [p.name for p in (data_directory / "works").rglob("*") if p.is_file()] == [bytes(work.sha256).hex()]
    (data_directory / work.content_path).write_bytes(b"forged")
    with pytest.raises(DamagedContent, match="does not match"):
        works_queries.content(work)
    (data_directory / work.content_path).unlink()
    with pytest.raises(DamagedContent, match="missing"):
        works_queries.content(work)


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (NewWork("T", "text", b""), "empty"),
        (NewWork("T", "text", b" \n\t "), "blank"),
        (NewWork("T", "text", b"\xef\xbb\xbf\n"), "blank"),
        (NewWork("T", "text", b"abc\xff"), "byte 4 is not UTF-8"),
        (NewWork("T", "text", b"abc\0def"), "NUL"),
        (NewWork("T", "text", b"x" * (5 * MIB + 1)), "5,242,881 bytes"),
        (NewWork("T", "image", b"GIF89a but no more"), "not a readable"),
        (NewWork("T", "image", bmp()), "not a readable"),
        (NewWork("T", "image", people.picture(1)[:400]), "not a readable"),
        (NewWork("T", "image", bomb(7_000)), "7,000 x 7,000 pixels"),
        (NewWork("T", "image", bomb(60_000)), "far more than"),
        (NewWork("T", "video", b"x"), "not a film"),
        (NewWork("T", "audio", people.picture(1)), "not a recording"),
        (NewWork("T", "smell", b"x"), "text, image, audio or video"),
        (NewWork(" ", "text", b"x"), "title"),
        (NewWork("T\x07", "text", b"x"), "title"),
        (NewWork("T" * 301, "text", b"x"), "title"),
        (NewWork("T", "text", b"x", date(2030, 1, 1)), "still to come"),
    ],
)
def test_a_bad_work_is_refused_by_name_and_reason(work: NewWork, said: str, essays: Dataset, at: datetime) -> None:
    with pytest.raises(UnableToRegisterWorks, match=said) as refusal:
        register_works(dataset=essays, works=[people.text_work(1), work], at=at)
    assert [entry["position"] for entry in refusal.value.members["works"]] == [1]
    assert not Work.objects.exists()


def test_every_bad_work_of_a_call_is_named_and_none_is_registered(
    essays: Dataset, at: datetime, data_directory: Path
) -> None:
    works = [
        people.text_work(1, "Good"),
        NewWork("Blank", "text", b" "),
        people.text_work(1, "Again"),
        NewWork("Broken", "image", b"no"),
    ]
    with pytest.raises(UnableToRegisterWorks) as refusal:
        register_works(dataset=essays, works=works, at=at)
    assert [(entry["position"], entry["title"]) for entry in refusal.value.members["works"]] == [
        (1, "Blank"),
        (2, "Again"),
        (3, "Broken"),
    ]
    assert "the same as “Good”" in str(refusal.value)
    assert not Work.objects.exists()
    assert not (data_directory / "works").exists()


@pytest.mark.parametrize("count", [0, 1001])
def test_a_call_registers_one_to_a_thousand_works(count: int, essays: Dataset, at: datetime) -> None:
    with pytest.raises(UnableToRegisterWorks, match="1 to 1,000"):
        register_works(dataset=essays, works=[people.text_work(1)] * count, at=at)


def test_a_thousand_works_register_at_once_and_in_few_queries(
    essays: Dataset, at: datetime, django_assert_max_num_queries: Any
) -> None:
    works = [NewWork(f"Note {i}", "text", people.text(i, 12).encode()) for i in range(1000)]
    with django_assert_max_num_queries(60):
        register_works(dataset=essays, works=works, at=at)
    assert Work.objects.count() == 1000
    assert not DuplicatePair.objects.exists()


def test_a_dataset_holds_a_content_once(essays: Dataset, at: datetime) -> None:
    register_works(dataset=essays, works=[people.text_work(1, "First")], at=at)
    with pytest.raises(UnableToRegisterWorks, match="holds it already, as “First”"):
        register_works(dataset=essays, works=[people.text_work(1, "Second")], at=at)


def test_a_work_goes_to_a_holder_that_names_its_contributor(
    ada: Contributor, ben: Contributor, essays: Dataset, at: datetime
) -> None:
    band = register_holder(contributor=ben, label="Band", parts={ada: 1, ben: PPB - 1}, effective_from=at, at=at)
    (work,) = register_works(dataset=essays, works=[people.text_work(1)], at=at, holder=band)
    assert work.holder == band
    with pytest.raises(UnableToRegisterWorks, match="no part in"):
        register_works(dataset=essays, works=[people.text_work(2)], at=at, holder=ben.holders.get(is_default=True))


def test_an_exact_copy_is_found_across_contributors_the_earlier_one_first(
    essays: Dataset, reprints: Dataset, at: datetime
) -> None:
    (first,) = register_works(dataset=essays, works=[people.text_work(1)], at=at)
    copy, other = register_works(
        dataset=reprints, works=[people.text_work(1, "Copy"), people.text_work(2)], at=at + timedelta(days=1)
    )
    pair = DuplicatePair.objects.get()
    assert (pair.first, pair.second, pair.kind, pair.similarity_ppb) == (first, copy, "exact", PPB)
    first.refresh_from_db()
    assert first.cluster is not None
    assert first.cluster == copy.cluster
    assert other.cluster is None
    assert [p.pk for p in works_queries.duplicates_of(essays.contributor)] == [pair.pk]
    assert list(works_queries.duplicates_of_work(other)) == []


def test_a_text_with_a_few_changed_words_is_found_as_near(essays: Dataset, reprints: Dataset, at: datetime) -> None:
    words = people.text(1, 400).split()
    changed = [*words[:200], "another", *words[201:], "and", "an", "end"]
    register_works(dataset=essays, works=[NewWork("Original", "text", " ".join(words).encode())], at=at)
    (copy,) = register_works(dataset=reprints, works=[NewWork("Edition", "text", " ".join(changed).encode())], at=at)
    pair = DuplicatePair.objects.get()
    assert pair.kind == "near"
    assert 900_000_000 < pair.similarity_ppb < PPB
    assert copy.cluster_id


def test_a_text_that_shares_a_third_is_no_copy(essays: Dataset, reprints: Dataset, at: datetime) -> None:
    shared = people.text(1, 150)
    register_works(dataset=essays, works=[NewWork("A", "text", f"{shared} {people.text(2, 300)}".encode())], at=at)
    register_works(dataset=reprints, works=[NewWork("B", "text", f"{shared} {people.text(3, 300)}".encode())], at=at)
    assert not DuplicatePair.objects.exists()


def test_case_spacing_and_unicode_forms_make_no_other_text(essays: Dataset, reprints: Dataset, at: datetime) -> None:
    register_works(dataset=essays, works=[NewWork("A", "text", ("Café über " + people.text(1)).encode())], at=at)
    register_works(
        dataset=reprints,
        works=[NewWork("B", "text", ("CAFE\u0301\n\nÜber\t" + people.text(1).upper()).encode())],
        at=at,
    )
    assert DuplicatePair.objects.get().similarity_ppb == PPB


def test_a_text_without_spaces_is_compared_by_its_characters(essays: Dataset, reprints: Dataset, at: datetime) -> None:
    letters = "".join(chr(0x4E00 + (i * 7919) % 20_000) for i in range(300))
    register_works(dataset=essays, works=[NewWork("A", "text", letters.encode())], at=at)
    register_works(dataset=reprints, works=[NewWork("B", "text", (letters + "終").encode())], at=at)
    assert DuplicatePair.objects.get().kind == "near"


def test_a_picture_is_recognised_when_resized_and_compressed(essays: Dataset, reprints: Dataset, at: datetime) -> None:
    register_works(dataset=essays, works=[NewWork("Discs", "image", people.picture(1))], at=at)
    register_works(
        dataset=reprints,
        works=[
            NewWork("Smaller", "image", people.picture(1, 200, 150, "JPEG", 70)),
            NewWork("Larger", "image", people.picture(1, 400, 300, "WEBP", 80)),
            NewWork("Other", "image", people.picture(2)),
        ],
        at=at,
    )
    found = {(pair.first.title, pair.second.title) for pair in DuplicatePair.objects.all()}
    assert found == {("Discs", "Smaller"), ("Discs", "Larger"), ("Smaller", "Larger")}


def test_plain_pictures_are_no_copies_of_each_other(essays: Dataset, at: datetime) -> None:
    works = []
    for colour in ("red", "blue", "white"):
        file = io.BytesIO()
        Image.new("RGB", (50, 50), colour).save(file, "PNG")
        works.append(NewWork(colour, "image", file.getvalue()))
    register_works(dataset=essays, works=works, at=at)
    assert not DuplicatePair.objects.exists()
    assert not FingerprintBand.objects.exists()


def test_two_clusters_that_meet_become_the_older_one(
    essays: Dataset, reprints: Dataset, ada: Contributor, at: datetime
) -> None:
    words = people.text(1, 200).split()
    begins, ends = people.text(2, 54).split(), people.text(3, 54).split()

    def edition(before: int, after: int) -> bytes:
        return " ".join([*begins[:before], *words, *ends[:after]]).encode()

    # The two outer editions share too little with each other, and enough with the one between them.
    one, other = edition(54, 0), edition(0, 54)
    register_works(dataset=essays, works=[NewWork("A", "text", one), NewWork("B", "text", other)], at=at)
    assert not DuplicatePair.objects.exists()
    a2, b2 = register_works(dataset=reprints, works=[NewWork("A2", "text", one), NewWork("B2", "text", other)], at=at)
    older, younger = sorted([a2.cluster_id or 0, b2.cluster_id or 0])
    assert older != younger
    between = people.dataset(ada, at, "Between")
    register_works(dataset=between, works=[NewWork("M", "text", edition(0, 0))], at=at)
    assert set(Work.objects.values_list("cluster_id", flat=True)) == {older}


def test_a_call_links_a_chain_of_copies_into_one_cluster(essays: Dataset, at: datetime) -> None:
    words = people.text(1, 400).split()
    works = [NewWork(f"Version {i}", "text", " ".join(words[i * 8 :]).encode()) for i in range(6)]
    registered = register_works(dataset=essays, works=works, at=at)
    assert len({work.cluster_id for work in registered}) == 1
    assert registered[0].cluster_id is not None


def test_many_copies_make_a_bounded_number_of_pairs(ada: Contributor, at: datetime) -> None:
    for i in range(operations.CANDIDATES_MAX + 4):
        register_works(dataset=people.dataset(ada, at, f"D{i}"), works=[people.text_work(1)], at=at)
    newest = Work.objects.latest("pk")
    assert newest.duplicates_before.count() == operations.CANDIDATES_MAX
    assert Work.objects.values("cluster").distinct().count() == 1


def test_the_candidates_are_found_by_the_index_of_bands(essays: Dataset, at: datetime) -> None:
    register_works(dataset=essays, works=[people.text_work(i) for i in range(50)], at=at)
    with connection.cursor() as cursor:
        # On a small table the planner's choice depends on statistics that other tests leave.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute(
            "EXPLAIN SELECT work_id FROM contributors_fingerprintband WHERE key = 5 AND work_id < 9 "
            "ORDER BY work_id LIMIT 3"
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Only Scan using a_work_has_a_band_once" in plan


def test_bands_of_the_longest_text_take_bounded_memory_and_time() -> None:
    content = " ".join(f"{i:x}" for i in range(880_000)).encode()[: 5 * MIB]
    started = time.process_time()
    signature = fingerprints.fingerprint("text", content)
    assert len(signature) == 512
    assert len(fingerprints.bands("text", signature)) == 32
    assert time.process_time() - started < 20


def test_what_a_work_is_never_changes_but_its_title_may(essays: Dataset, at: datetime) -> None:
    (work,) = register_works(dataset=essays, works=[people.text_work(1)], at=at)
    assert Work.objects.filter(pk=work.pk).update(title="A better title") == 1
    for change in ({"sha256": b"0" * 32}, {"fingerprint": b""}, {"size_bytes": 9}, {"created_at": at + timedelta(1)}):
        with pytest.raises(Error, match="pgtrigger"), transaction.atomic():
            Work.objects.filter(pk=work.pk).update(**change)
    with pytest.raises(Error, match=r"Cannot (update or )?delete"), transaction.atomic():
        Work.objects.filter(pk=work.pk)._raw_delete("default")


def test_a_duplicate_pair_never_changes(essays: Dataset, reprints: Dataset, at: datetime) -> None:
    register_works(dataset=essays, works=[people.text_work(1)], at=at)
    register_works(dataset=reprints, works=[people.text_work(1)], at=at)
    with pytest.raises(Error, match="Cannot update"), transaction.atomic():
        DuplicatePair.objects.update(similarity_ppb=1)
    with pytest.raises(Error, match=r"Cannot (update or )?delete"), transaction.atomic():
        DuplicatePair.objects.all().delete()


def test_a_content_written_by_two_at_once_is_whole(data_directory: Path) -> None:
    content = b"x" * (4 * MIB)
    threads = [threading.Thread(target=contents.store, args=("works", b"\1" * 32, content)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (stored,) = [path for path in (data_directory / "works").rglob("*") if path.is_file()]
    assert stored.read_bytes() == content


def test_a_refused_call_with_a_new_title_can_be_mended(essays: Dataset, at: datetime) -> None:
    bad = replace(people.text_work(1), title="")
    with pytest.raises(UnableToRegisterWorks):
        register_works(dataset=essays, works=[bad], at=at)
    assert register_works(dataset=essays, works=[replace(bad, title="Named")], at=at)
