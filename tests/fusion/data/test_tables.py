"""Tables as people, spreadsheets and other programs write them: read where it is certain, else refused in a line."""

import csv
import gzip
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.data.column_names import looks_like
from fusion.data.dataset import load_dataset
from fusion.data.readers import DatasetError, read_listing
from fusion.errors import UsageError
from fusion.settings.data import ReadingSettings
from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import paint, real_data, write_image


@pytest.fixture
def table(tmp_path):
    """Writes a table and lists it."""

    def write(content, name="cells.csv", **reading):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_listing(file, ReadingSettings(**reading))

    return write


# ---- columns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *(
            (name, "subject")
            for name in (
                "Subject",
                "subject_id",
                "patient",
                "patient_id",
                "Patient_ID",
                "PatientID",
                "PATIENTID",
                "patient id",
                "Patient No.",
                "patID",
                "case",
                "Case-ID",
                "donor",
                "donorNumber",
                "subjects",
                "SUBJECT",
                "mrn",
                "Paciente",
                "id",
                "pat_no",
                "case-id",
                "PatNr",
                "patient identifier",
                "patient_hash",
                "medical_record_number",
                "PatientenID",
                "Fallnummer",
                "Spender",
                "numéro_patient",
                "donneur",
                "id_paciente",
                "paziente",
                "patiënt",
                "pacjent",
                "potilas",
                "hasta_id",
                "пациент",
                "患者ID",
                "病人",
                "환자",
                "animal_id",
            )
        ),
        *((name, "group") for name in ("Group", "slide", "slide_id", "SlideName", "smear_no", "sample_id", "Specimen")),
        *((name, "group") for name in ("Objektträger", "Proben-ID", "frottis", "muestra", "biopsy_id", "WSI", "切片")),
        *((name, "label") for name in ("Label", "LABELS", "class", "Class", "class_name", "className", "Classes")),
        *((name, "source") for name in ("Source", "site", "Site_ID", "centre", "Center", "hospital", "lab")),
        *((name, "source") for name in ("Klinik", "hôpital", "ospedale", "医院")),
        *((name, "fold") for name in ("Fold", "FOLD", "fold_id")),
        *((name, "mask") for name in ("Mask", "mask_path", "maskFile")),
        *(
            (name, "um_per_px")
            for name in ("um_per_pixel", "µm/px", "Um_Per_Px", "mpp", "pixel_size", "PixelSize_um", "microns_per_pixel")
        ),
        *(
            (name, None)
            for name in (
                "site_notes",
                "label_source",
                "age",
                "code",
                "touches_border",
                "patient_age",
                "slide_date",
                "age_group",
                "cell_size",
                "nucleus_shape",
                "magnification",
                "notes",
                "sex",
                "source_url",
                "class_probability",
                "case_notes",
                "labelled_by",
                "cell_id",
                "image_id",
                "staining",
                "donated",
            )
        ),
    ],
)
def test_names_that_look_like_ours(name, role):
    assert looks_like(name) == role


@pytest.mark.parametrize("name", ["patient_id", "Subject", "PATIENT", "donor id", "slide"])
def test_a_column_that_looks_like_the_subject_stops_the_run_until_it_is_said_what_it_is(name, table):
    content = f"path,label,{name}\na.png,x,1\nb.png,y,1\nc.png,x,2\n"
    with pytest.raises(DatasetError, match=r"looks as if it should be used") as refused:
        table(content)
    assert f"={name}" in str(refused.value) or f"='{name}'" in str(refused.value)
    assert "--ignore-columns" in str(refused.value)
    assert [e.subject for e in table(content, columns={"subject": name}).entries] == ["1", "1", "2"]
    assert [e.subject for e in table(content, ignore_columns=[name]).entries] == [None] * 3


@pytest.mark.parametrize("name", ["Label", "class", "Fold", "um_per_pixel", "Group", "Site", "diagnosis", "mask_path"])
def test_other_columns_that_look_like_ours(name, table):
    with pytest.raises(DatasetError, match="looks as if"):
        table(f"path,subject,{name}\na.png,1,1\nb.png,2,1\n")


@pytest.mark.parametrize(
    "name",
    ["study_id", "record_no", "bag-ID", "scan_uid", "StudyInstanceUID", "pseudonym", "anon_id", "ParentID", "uuid"],
)
def test_an_id_that_comes_again_and_again_is_asked_about_whatever_it_is_of(name, table):
    repeated = "".join(f"{at}.png,{'xy'[at % 2]},{at // 3}\n" for at in range(12))
    with pytest.raises(DatasetError, match="looks as if it should be used"):
        table(f"path,label,{name}\n{repeated}")
    once = "".join(f"{at}.png,{'xy'[at % 2]},{at}\n" for at in range(12))
    assert len(table(f"path,label,{name}\n{once}").entries) == 12


@pytest.mark.parametrize("name", ["seg", "Segmentation", "seg_path", "roi", "annotation_file", "contour"])
def test_a_column_of_images_that_are_called_like_masks_is_asked_about(name, table):
    with pytest.raises(DatasetError, match="looks like 'mask'"):
        table(f"path,label,{name}\na.png,x,m/a.png\nb.png,y,m/b.TIF\n")
    assert len(table(f"path,label,{name}\na.png,x,good\nb.png,y,bad\n").entries) == 2


@pytest.mark.parametrize("name", ["Klasse", "classe", "etiqueta", "étiquette", "cls", "Diagnóstico", "GT", "诊断"])
def test_a_label_in_another_language_is_asked_about_where_there_is_none(name, table):
    with pytest.raises(DatasetError, match="looks like 'label'"):
        table(f"path,subject,{name}\na.png,1,x\nb.png,2,y\n")
    assert table(f"path,label,{name}\na.png,1,x\nb.png,2,y\n").entries[0].label == "1"


def test_a_split_that_is_not_used_is_asked_about(table):
    with pytest.raises(DatasetError, match="fold=split"):
        table("path,label,split\na.png,x,train\nb.png,y,test\n")


def test_what_joins_or_says_nothing_new_needs_no_question(table):
    for content in (
        "path,label,subject,slide\na.png,x,1,s1\nb.png,y,1,s2\nc.png,x,2,s3\n",  # slides of one person each
        "path,label,sample_id\na.png,x,1\nb.png,y,2\nc.png,x,3\n",  # an image each
        "path,label,class_id\na.png,x,0\nb.png,y,1\nc.png,x,0\n",  # the label's own number
        "path,label,source,site\na.png,x,m,Munich\nb.png,y,b,Barcelona\n",
        "path,label,case\na.png,x,\nb.png,y,\n",
    ):
        (note,) = (note for note in table(content).notes if "not used" in note)
        assert content.partition("\n")[0].rpartition(",")[2] in note
    for content in (
        "path,label,subject,patient\na.png,x,1,p\nb.png,y,2,p\nc.png,x,3,q\n",  # two of one person
        "path,label,class\na.png,x,x1\nb.png,x,x2\nc.png,y,y1\n",  # more classes than labels
        "path,label,subject,Group\na.png,x,1,g\nb.png,y,2,g\n",
    ):
        with pytest.raises(DatasetError, match="looks as if"):
            table(content)


def test_columns_that_are_not_there_or_are_no_columns_of_ours(table):
    content = "path,label,who\na.png,x,1\nb.png,y,2\n"
    with pytest.raises(DatasetError, match=r"no column 'whom'.*\n.*\n.*'who'"):
        table(content, columns={"subject": "whom"})
    with pytest.raises(DatasetError, match="no column 'age'"):
        table(content, ignore_columns=["age"])
    with pytest.raises(DatasetError, match=r"no 'subjekt'.*\n.*\n.*'subject'"):
        table(content, columns={"subjekt": "who"})
    with pytest.raises(DatasetError, match=r"no column 'path'.*\n.*\n.*\n.*path=File"):
        table("File,label\na.png,x\n")
    assert len(table("File,label\na.png,x\n", columns={"path": "File"}).entries) == 1


def test_a_column_that_takes_the_place_of_ours(table):
    listing = table("path,label,subject,patient\na.png,x,1,p\nb.png,y,2,p\n", columns={"subject": "patient"})
    assert [e.subject for e in listing.entries] == ["p", "p"]


#: Columns beside path and label, as people have them.
ORDINARY = [
    {"subject": ["1", "1", "2", "3"]},
    {"subject": ["007", "017", "8", "9"], "age": ["31", "31", "9", "66"]},
    {"site_notes": ["", "torn", "", ""]},
    {"label_source": ["expert", "expert", "resident", "expert"]},
    {"code": ["SNE", "BNE", "SNE", "BNE"], "touches_border": ["0", "1", "0", "1"]},
    {"cell_size": ["small", "big", "big", "small"], "granularity": ["yes", "no", "no", "yes"]},
    {"source": ["a", "a", "b", "b"], "scanner": ["M8", "M8", "DM96", "DM96"]},
    {"group": ["g1", "g1", "g2", ""]},
    {"fold": ["0", "1", "0", "1"]},
    {"um_per_px": ["0.25", "0.25", "0.1", ""]},
    {"mask": ["m/a.png", "", "", ""]},
    {"confidence": ["0.9", "0.8", "1.0", "0.7"]},
    {"annotator": ["AB", "CD", "AB", "CD"], "annotated_on": ["2020-01-01"] * 4},
    {"x": ["1", "2", "3", "4"], "y0": ["5", "6", "7", "8"], "width": ["40"] * 4},
    {"sex": ["m", "m", "f", "f"], "blast_percentage": ["80", "80", "3", "2"]},
    {"treatment": ["A", "B", "A", "B"]},
    {"staining": ["MGG", "MGG", "Wright", "MGG"]},
    {"magnification": ["100"] * 4, "NA_of_lens": ["1.4"] * 4},
    {"image_id": ["1", "2", "3", "4"], "cell_id": ["1", "2", "1", "2"]},
    {"filename": ["a", "b", "c", "d"]},
    {"quality": ["good", "bad", "good", "good"]},
    {"comment": ["a, b", 'so "to say"', "", "two\nlines"]},
    {"subject": ["Nan", "Nan", "Li", "Kim"]},
    {"subject": ["H1", "H1", "2", "3"], "patient_age": ["5", "5", "6", "7"], "patient_sex": ["m", "m", "f", "m"]},
    {"slide_date": ["2020", "2020", "2021", "2021"]},
    {"case_notes": ["relapse", "relapse", "", ""]},
    {"class_probability": ["0.5", "0.6", "0.7", "0.8"]},
    {"species": ["human"] * 4, "organ": ["marrow"] * 4},
    {"url": ["http://a", "http://b", "http://c", "http://d"]},
    {"": ["0", "1", "2", "3"], "subject": ["1", "1", "2", "3"]},
    {"annotator_id": ["7", "7", "8", "8"], "scanner_no": ["1", "1", "1", "2"]},
    {"batch_id": ["1", "1", "2", "2"], "visit_number": ["1", "2", "1", "2"]},
    {"gene_name": ["NPM1", "NPM1", "FLT3", ""], "quality_code": ["A", "B", "A", "A"]},
    {"image_no": ["1", "1", "2", "2"], "cell_no": ["1", "2", "1", "2"], "row_number": ["1", "2", "3", "4"]},
    {"WBC_count": ["4", "4", "9", "9"], "ward_no": ["3", "3", "4", "4"], "lot_number": ["A1", "A1", "B", "B"]},
    {"uuid": ["a-1", "b-2", "c-3", "d-4"], "md5": ["0a", "1b", "2c", "3d"]},
    {"color_id": ["1", "1", "2", "2"], "Score": ["3", "3", "1", "2"]},
]


@pytest.mark.parametrize("more", ORDINARY, ids=lambda more: "+".join(more))
def test_thirty_ordinary_tables_run_without_a_question(more, table):
    text = io.StringIO()
    csv.DictWriter(text, ["path", "label", *more]).writeheader()
    for at in range(4):
        row = {
            "path": f"{'abcd'[at]}.png",
            "label": "xy"[at % 2],
            **{name: values[at] for name, values in more.items()},
        }
        csv.DictWriter(text, ["path", "label", *more]).writerow(row)
    listing = table(text.getvalue())
    assert [entry.label for entry in listing.entries] == ["x", "y", "x", "y"]
    if "subject" in more:
        assert [entry.subject for entry in listing.entries] == more["subject"]


def test_every_table_of_real_cells_runs_without_a_question():
    folder = real_data("munich").parent
    for file in [*folder.glob("*.csv"), *folder.glob("*/*.csv")]:
        assert len(read_listing(file).entries) == len(pd.read_csv(file))


# ---- words for what is unknown --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    ["NA", "N/A", "n/a", "nan", "NaN", "None", "null", "NULL", "-", "--", "?", "", " ", "<NA>", "#REF!", "#DIV/0!"],
)
@pytest.mark.parametrize("column", ["label", "subject", "group", "fold", "source", "um_per_px", "mask"])
def test_words_for_what_is_unknown(word, column, table):
    listing = table(f'path,{column}\na.png,"{word}"\nb.png,"{word}"\nc.png,1\n')
    attribute = "mask_path" if column == "mask" else column
    values = [getattr(entry, attribute) for entry in listing.entries]
    assert values[:2] == [None, None]
    assert values[2] is not None
    (note,) = listing.notes
    assert column in note
    assert (repr(word) if word.strip() else "empty") in note
    assert "(2)" in note


def test_a_name_among_names_stays_one(table):
    names = "path,subject\na.png,Nan\nb.png,Li\nc.png,Nan\n"
    assert [e.subject for e in table(names).entries] == ["Nan", "Li", "Nan"]
    assert "'Nan' in column subject (2 rows) is taken as it stands" in table(names).notes[0]
    assert [e.subject for e in table(names.replace("Li", "7")).entries] == [None, "7", None]
    assert [e.subject for e in table(names, missing=["Nan"]).entries] == [None, "Li", None]


def test_unknown_as_a_word_is_named_and_can_be_said_to_be_missing(table):
    content = "path,label,subject\na.png,x,unknown\nb.png,y,unknown\nc.png,y,3\n"
    assert any("missing=unknown" in note for note in table(content).notes)
    assert [e.subject for e in table(content, missing=["unknown"]).entries] == [None, None, "3"]


@pytest.mark.parametrize("column", ["label", "fold", "subject", "group", "source"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P1", "p1"),
        ("P_1", "P-1"),
        ("P\N{EN DASH}1", "P-1"),
        ("'007", "007"),
        ('=""007""', "7"),
        ("1", "01"),
        ("Ｐ１", "P1"),
        ("M\u00fcller", "Mu\u0308ller"),
        ("P1\u200b", "P1"),
        ("True", "TRUE"),
    ],
)
def test_one_name_in_two_spellings_is_asked_about_in_every_column(column, one, other, table):
    with pytest.raises(UsageError, match=f"the {column}s of cells.csv may be one {column} spelt in several ways"):
        table(f'path,{column}\na.png,"{one}"\nb.png,"{other}"\n')


def test_blanks_around_a_class_are_told(table):
    listing = table('path,label\na.png,"all "\nb.png,all\n')
    assert [entry.label for entry in listing.entries] == ["all", "all"]
    assert "blanks around a label are left out: 'all'" in listing.notes[0]


@pytest.mark.parametrize("column", ["subject", "group", "source", "label"])
@pytest.mark.parametrize("value", ["1.23457E+11", "1.2e+16", "1E+05"])
def test_ids_that_a_spreadsheet_has_rounded_are_refused(column, value, table):
    with pytest.raises(DatasetError, match=r"that a spreadsheet has rounded(.|\n)*all of their digits"):
        table(f"path,{column}\na.png,{value}\nb.png,{value}\n")
    assert len(table(f"path,{column}\na.png,1E5\nb.png,12E-3\n").entries) == 2


def test_rows_that_say_the_same_again_are_told(table):
    listing = table("path,label\na.png,x\nb.png,y\n./a.png,x\na.png,x\n")
    assert len(listing.entries) == 2
    assert listing.notes == ("cells.csv: rows that say the same as one before are left out: 2, first line 4.",)


@pytest.mark.parametrize("mark", ["\ufeff", "\ufeff\ufeff", "\u200b", "\u2060"])
def test_marks_that_show_nothing_are_no_part_of_a_columns_name(mark, table):
    assert table(f"{mark}path,label{mark}\na.png,x\n").entries[0].label == "x"


def test_plus_and_minus_as_classes_are_asked_about(table):
    with pytest.raises(DatasetError, match=r"\+ and -"):
        table("path,label\na.png,+\nb.png,-\n")


# ---- spellings ------------------------------------------------------------------------------------------------------

ROWS = [("path", "label", "subject"), ("bild ä.png", "Blast", "007"), ("b.png", "Müller, groß", "Ünal")]


def written(separator=",", encoding="utf-8", end="\n", start="", quoting=csv.QUOTE_MINIMAL):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting).writerows(ROWS)
    return (start + text.getvalue()).encode(encoding)


def values(listing):
    return [(entry.path.name, entry.label, entry.subject) for entry in listing.entries]


@settings(deadline=None)
@given(
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    named=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    ending=st.sampled_from([".csv", ".tsv", ".CSV"]),
    commas=st.integers(0, 3),
    comments=st.lists(
        st.sampled_from(["# exported 2020-01-01", "#", '"# by hand, twice"', "", "#\ta;b|c"]), max_size=3
    ),
)
def test_the_same_rows_in_any_spelling(
    tmp_path_factory, separator, encoding, end, named, quoting, ending, commas, comments
):
    start = f"sep={separator}{end}" if named else ""
    start += "".join(f"{line}{end}" for line in comments)
    text = written(separator, "utf-8", end, start, quoting).decode()
    bare = {"", start.partition(end)[0], *comments}
    lines = [line + (separator * commas if line not in bare else "") for line in text.split(end)]
    file = tmp_path_factory.mktemp("t") / f"cells{ending}"
    file.write_bytes((end.join(lines) + (separator * 2 + end) * commas).encode(encoding))
    assert values(read_listing(file)) == ROWS[1:]


def test_what_was_taken_otherwise_than_it_stands_there_is_told(table):
    assert "Windows-1252" in table(written(encoding="cp1252")).notes[0]
    assert "UTF-16-LE" in table(written(encoding="utf-16")).notes[0]
    assert "2 rows with more separators at the end" in table("path,label\na.png,x,\nb.png,y,\n").notes[0]
    assert "2 rows left out, with nothing in any field" in table("path,label\na.png,x\n,\n , \n").notes[0]
    assert "1 row with fewer fields" in table("path,label,subject\na.png,x\nb.png,y,1\n").notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,label,um_per_px\na.png,x,0,25\n", "line 2 .*more fields(.|\n)*decimal comma"),
        ("path,label\na.png,x,y\n", "line 2 .*more fields"),
        ("path,label,label\na.png,x,y\n", "called 'label'"),
        ("path,label,label \na.png,x,y\n", "called 'label'"),
        (b"PK\x03\x04 more", "Excel"),
        (b"path,label\na.png,\x81\n", "line 2 is neither UTF-8 nor"),
        ("path;um_per_px\na.png;1,250\n", "um_per_px 1,250"),
        ("path,um_per_px\na.png,1_0\n", "um_per_px 1_0"),
        ("path,um_per_px\na.png,0.25 um\n", "um_per_px 0.25 um"),
        ("path,um_per_px\na.png,250\n", "um_per_px 250"),
        ("path,um_per_px\na.png,0\n", "um_per_px 0"),
        ("path,um_per_px\na.png,2.5e-7\n", "um_per_px 2.5e-7"),
        (b"\x1f\x8b\x08 more", "a gzip file(.|\n)*Unpack it"),
        (b"BZh9 more", "a bzip2 file(.|\n)*Unpack it"),
        ("Cells of the second batch\npath,label\na.png,x\n", "header of .* not its first line(.|\n)*above line 2"),
        ("Cells, second batch\n\npath,label\na.png,x\n", "header of .* not its first line(.|\n)*above line 3"),
        ("path,mask\na.png,1.png\nb.png,\na.png,\n", "once with a mask and once without(.|\n)*in lines 2 and 4"),
        ("path,mask,label\na.png,,x\na.png,1.png,x\n", "once with a mask and once without(.|\n)*in lines 2 and 3"),
    ],
)
def test_what_cannot_be_certain_is_refused(content, words, table):
    with pytest.raises(DatasetError, match=words):
        table(content)


@pytest.mark.parametrize("ending", [".csv.gz", ".tsv.gz", ".csv.zip", ".csv.bz2", ".parquet.zst"])
def test_a_packed_table_is_refused_with_what_to_do(ending, table):
    with pytest.raises(DatasetError, match="Unpack it"):
        table(gzip.compress(b"path,label\n"), name=f"cells{ending}")


def test_comments_above_the_header_are_told_and_a_commented_header_is_one(table):
    listing = table("# exported 2020\n#\npath,label\na.png,x\n")
    assert [entry.path.name for entry in listing.entries] == ["a.png"]
    assert "comments above the header are left out: 2 rows, such as '# exported 2020'" in listing.notes[0]
    for header in ("#path\tlabel", "# path\tlabel", '"#path"\tlabel'):
        listing = table(f"# exported 2020\n{header}\na.png\tx\n")
        assert [(entry.path.name, entry.label) for entry in listing.entries] == [("a.png", "x")]
        assert "the header is the line that begins with #" in listing.notes[0]
        assert "left out: 1 row, such as" in listing.notes[1]
    with pytest.raises(DatasetError, match=r"line 5 .*more fields"):
        table("# a\n\n# b\npath,label\na.png,x,y\n")


@pytest.mark.parametrize("ending", [".xlsx", ".ods", ".xls"])
def test_a_spreadsheet_is_refused_with_what_to_do(ending, table):
    with pytest.raises(DatasetError, match="Save the sheet as CSV"):
        table("", name=f"cells{ending}")


def test_decimal_commas(table):
    listing = table("path;um_per_px\na.png;0,25\nb.png;0.5\nc.png;1\n")
    assert [e.um_per_px for e in listing.entries] == [0.25, 0.5, 1.0]
    assert "decimal commas" in listing.notes[0]
    assert [e.um_per_px for e in table('path,um_per_px\na.png,"0,125"\n').entries] == [0.125]


def test_the_index_of_a_frame_is_a_column(tmp_path):
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["x", "y"], "subject": [1, 2]})
    frame.set_index("subject").to_parquet(tmp_path / "cells.parquet")
    assert [e.subject for e in read_listing(tmp_path / "cells.parquet").entries] == ["1", "2"]


def test_masks_of_several_cells_of_one_image(table):
    listing = table("path,label,mask\na.png,x,1.png\na.png,x,2.png\n")
    assert [entry.mask_path.name for entry in listing.entries] == ["1.png", "2.png"]
    with pytest.raises(DatasetError, match="label y and x"):
        table("path,label,mask\na.png,x,1.png\na.png,y,1.png\n")


# ---- paths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "hint"),
    [("images\\a.png", "backslashes"), ("~/images/a.png", "home folder"), ("C:\\cells\\a.png", "drive"), ("x.png", "")],
)
def test_paths_that_are_all_wrong_say_where_was_looked(path, hint, tmp_path):
    (tmp_path / "cells.csv").write_text(f"path,label\n{path},x\n{path}2,y\n")
    with pytest.raises(DatasetError, match=r"none of the 2 images") as refused:
        load_dataset(tmp_path / "cells.csv")
    assert str(tmp_path) in str(refused.value)
    assert hint in str(refused.value)


def test_a_column_that_is_ignored_is_not_read_under_its_own_name_either(table):
    content = "path,label,mask,source\n" + "".join(f"{at}.png,{'ab'[at % 2]},{at}-m.png,x\n" for at in range(4))
    assert all(entry.mask_path is not None for entry in table(content).entries)
    bare = table(content, ignore_columns=["mask", "source"]).entries
    assert [(entry.mask_path, entry.source) for entry in bare] == [(None, None)] * 4
    assert [entry.label for entry in bare] == list("abab")
    # Who names a column for a role wants it.
    named = table(content, ignore_columns=["source"], columns={"source": "source"}).entries
    assert {entry.source for entry in named} == {"x"}


def test_paths_that_start_elsewhere(tmp_path, monkeypatch):
    write_image(tmp_path / "images" / "a.png", paint())
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "cells.csv").write_text("path,label\nimages/a.png,x\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match="They are there from"):
        load_dataset(Path("tables/cells.csv"))


# ---- the command line -----------------------------------------------------------------------------------------------


def test_the_command_line_says_what_a_column_is(class_folders):
    names = sorted(file.relative_to(class_folders).as_posix() for file in class_folders.rglob("*.png"))
    rows = [f"{name},{name.partition('/')[0]},{at % 3}" for at, name in enumerate(names)]
    table = class_folders / "cells.csv"
    table.write_text("\n".join(["path,Class,Patient ID", *rows]))
    assert_refused(fusion("inspect", table), 2, "--columns", "subject='Patient ID'", "label=Class")
    told = fusion("inspect", table, "--columns", "subject=Patient ID,label=Class")
    assert told.exit_code == 0, told.stderr
    assert "3 subjects" in told.stdout
    alone = fusion("inspect", table, "--ignore-columns", "Patient ID,Class")
    assert "unknown subjects" in alone.stdout


def test_a_run_in_which_no_image_can_be_used_has_failed(class_folders, tmp_path):
    for file in class_folders.rglob("*.png"):
        file.write_bytes(b"")
    assert_refused(fusion("inspect", class_folders), 1, "not one of 6 images", "6 of 6", "the file is empty")
    faults = tmp_path / "faults.csv"
    done = fusion("extract", class_folders, "--features", "colour", "--faults", faults)
    assert done.exit_code == 1
    assert len(faults.read_text().splitlines()) == 7
    assert fusion("train", class_folders, "--features", "colour", "-o", tmp_path / "m").exit_code == 1
