"""The command line, the overrides and what is said of wrong ones."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kernelkit.config.members import decisive
from kernelkit.config.settings import text_of
from kernelkit.core.problem import Problem
from tiny_competition import write_csv, write_photo
from tiny_kernel import TINY, final_config, kernel

KERNEL = Path(kernel.__file__)


def config(*arguments):
    return kernel.read_arguments(list(arguments))[0]


def test_the_recipe_depends_on_where_it_runs(monkeypatch):
    assert config().recipe == "dry"
    assert config("--data", "somewhere").recipe == "default"
    monkeypatch.setattr(kernel, "ON_KAGGLE", True)
    on_kaggle = config()
    assert on_kaggle.recipe == "default"
    assert on_kaggle.backbone == "EfficientNetB3"
    assert final_config().image_size == (384, 512)
    assert on_kaggle.time_limit == kernel.KAGGLE_MINUTES
    assert config("--data", "somewhere").time_limit == kernel.KAGGLE_MINUTES


@pytest.mark.parametrize("words", [["--run", "output"], ["--sample", "a.csv"], ["--all"]])
def test_an_option_of_predict_alone_trains_nothing(words, capsys):
    with pytest.raises(SystemExit) as ended:
        kernel.read_arguments(words)
    assert ended.value.code == 2
    assert f"{words[0]} belongs to --predict" in capsys.readouterr().err


def test_names_are_read_in_any_case():
    assert config("--backbone", "EFFICIENTNETV2s").backbone == "EfficientNetV2S"
    assert config("--recipe", "Reference").recipe == "reference"


def test_sizes_are_height_by_width():
    assert config("--image-size", "160").image_size == (160, 160)
    assert config("--image-size", "384x512").image_size == (384, 512)
    assert final_config("--data", ".", "--backbone", "xception").image_size == (336, 448)


def test_epochs_is_the_most_a_stage_may_run():
    assert [
        s.epochs for s in final_config("--stages", "a:0:1e-3:2,b:1:1e-4:9", "--epochs", "3").stages
    ] == [
        2,
        3,
    ]


def test_labels_are_smoothed_in_long_schedules_alone():
    def smoothing(*words):
        return final_config("--data", "photos", *words).label_smoothing

    assert smoothing() == 0.1
    assert smoothing("--epochs", "3") == 0
    assert smoothing("--epochs", "3", "--label-smoothing", "0.05") == 0.05
    assert smoothing("--label-smoothing", "0") == 0
    assert smoothing("--recipe", "reference") == 0
    maximum = kernel.members_of(config("--recipe", "max"), 10_000)
    assert {member.label_smoothing for member in maximum.values()} == {0.1, 0}  # towers are brief


@pytest.mark.parametrize(
    ("words", "photos", "expected"),
    [
        ((), 13_000, 32),
        ((), 444, 16),  # 36 epochs: 499.5 steps of 32
        ((), 445, 32),  # 500.6
        (("--epochs", "3"), 1_777, 16),
        (("--epochs", "3"), 1_778, 32),
        (("--epochs", "3", "--batch-size", "20"), 100, 20),
        (("--recipe", "reference"), 100, 24),
        (("--recipe", "quick"), 300, 16),
    ],
)
def test_batches_are_small_where_steps_would_be_few(words, photos, expected):
    found = final_config("--data", "photos", *words, photos=photos)
    assert found.batch_size == expected


@pytest.mark.parametrize(
    ("words", "photos", "expected"),
    [
        ((), 444, "linear"),
        (("--backbone", "MobileNet"), 444, "hidden"),
        (("--backbone", "MobileNet"), 445, "linear"),
        (("--backbone", "MobileNet", "--head", "linear"), 444, "linear"),
        (("--backbone", "MobileNet", "--stages", "head:0:1e-3:1:views=4"), 444, "linear"),
        (("--recipe", "reference"), 13_000, "hidden"),
    ],
)
def test_the_head_is_the_backbones_where_steps_would_be_few(words, photos, expected):
    assert final_config("--data", "photos", *words, photos=photos).head == expected


def test_the_reference_is_as_it_scored():
    reference = kernel.RECIPES["reference"]
    assert reference.backbone == "InceptionV3"
    assert reference.input_range == "0..1"
    assert reference.batch_size == 24
    assert reference.tta == 10
    assert [(s.fraction, s.learning_rate) for s in reference.stages] == [
        (0, 1e-3),
        (0.5, 1e-4),
        (0.75, 1e-5),
        (1, 1e-6),
    ]


def test_overrides_count_like_the_command_line_and_before_it(monkeypatch):
    monkeypatch.setattr(kernel, "OVERRIDES", {"backbone": "convnextbase", "image_size": "480x640"})
    assert config().backbone == "ConvNeXtBase"
    assert config("--image-size", "96").image_size == (96, 96)
    monkeypatch.setattr(kernel, "OVERRIDES", {"bakcbone": "xception"})
    with pytest.raises(SystemExit) as stop:
        config()
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backbone", "resnet"], "'resnet' is not one of Plain, MobileNet, InceptionV3"),
        (["--recipe", "best"], "'best' is not one of default, quick, max, probe, reference, dry"),
        (["--image-size", "big"], "'big' is not a whole number"),
        (["--image-size", "0x64"], "0 must be at least 32 and at most 2048"),
        (["--image-size", "1"], "1 must be at least 32"),
        (["--stages", "head:0:1e-3:0"], "epochs: 0 must be at least 1"),
        (["--stages", "head:2:1e-3:1"], "fraction: 2 must be at least 0 and at most 1"),
        (["--stages", "head:0:0:1"], "learning_rate: 0 must be more than 0"),
        (["--stages", "a:0:1e-3:1,a:1:1e-3:1"], "the name 'a' stands in 2 rows"),
        (["--seed", "4294967296"], "4294967296 must be at least 0 and at most 4294967295"),
        (["--tta", "41"], "41 must be at least 1 and at most 20"),
        (["--time-limit", "0"], "0 must be more than 0"),
        (["--plateau-factor", "1"], "1 must be at least 0.01 and less than 1"),
        (["--batch-size", "0"], "0 must be at least 1"),
        (["--epochs", "two"], "'two' is not a whole number"),
        (["--validation-share", "0.9"], "0.9 must be at least 0.02 and at most 0.5"),
        (["--time-limit", "nan"], "'nan' is not a number"),
        (
            ["--stages", "head:0:1e-3"],
            "'head:0:1e-3' is not of the form name:fraction:learning_rate",
        ),
        (["--cache", "maybe"], "'maybe' is not one of yes, no"),
        (["--unknown", "1"], "unrecognized arguments: --unknown 1"),
        (["--image_sise", "64"], "did you mean --image-size?"),
        (["--set", "label=a", "--set", "label=b"], "label is given twice, as 'a' and 'b'"),
        (["--set", "metric"], "'metric' is not of the form FIELD=VALUE"),
        (["--members", "..:Plain"], "'..' can't be the name of a folder"),
    ],
)
def test_wrong_arguments_end_with_2_and_one_sentence(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        config(*arguments)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def shown_config(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        kernel.main(["--show-config", "--data", ".", *arguments])
    assert stop.value.code == 0
    return json.loads(capsys.readouterr().out)


def test_show_config_is_one_json_object(capsys):
    shown = shown_config(capsys, "--weights", "imagenet")
    assert shown["competition"] == "sf-dl-car-classification"
    assert shown["weights_files"] == ["efficientnetb3_notop.h5"]
    assert shown["config"]["image_size"] == [384, 512]
    assert {"default", "reference", "dry"} <= set(shown["recipes"])
    assert set(shown["backbones"]) == set(kernel.BACKBONES)


def test_show_config_needs_no_tensorflow():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(KERNEL), "--show-config"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["recipe"] == "dry"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "kernelkit" in imported
    assert not imported & {"tensorflow", "keras", "numpy", "pandas", "albumentations"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: (data / "sample-submission.csv").write_text("Id\n"), "sample-submission.csv"),
        (lambda data: (data / "train.csv").write_text("Id\n"), "train.csv"),
    ],
)
def test_problems_with_the_data_end_with_1_and_one_sentence(own_competition, spoil, said, capsys):
    spoil(own_competition)
    output = own_competition.parent / "out"
    arguments = ["--data", str(own_competition), "--output", str(output), "--weights", "none"]
    assert kernel.main(arguments) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("kernel.py: ")
    assert said in last


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert kernel.main(["--output", str(tmp_path / "file" / "out")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


TWO_MEMBERS = "b3:EfficientNetB3:image_size=300x400,next:ConvNeXtTiny:recipe=quick"


def members(*arguments):
    return kernel.members_of(config("--data", ".", *arguments), 10_000)


@pytest.mark.parametrize("backbone", [b for b in kernel.BACKBONES if b.startswith("EfficientNet")])
def test_efficientnets_freeze_batchnorm_whose_statistics_of_a_small_batch_break_them(backbone):
    (member,) = members("--backbone", backbone).values()
    assert member.batchnorm == "frozen"
    assert member.stages[-1].learning_rate == pytest.approx(
        6e-4 if backbone in ("EfficientNetB3", "EfficientNetLite0") else 3e-4
    )
    (asked,) = members("--backbone", backbone, "--batchnorm", "train").values()
    assert asked.batchnorm == "train"


def test_members_take_their_own_settings_their_recipes_and_the_session_s():
    session = ["--seed", "7", "--folds", "3", "--time-limit", "60", "--tta", "2"]
    session += ["--exclude", "bad.csv", "--validation-share", "0.2"]
    found = members("--members", TWO_MEMBERS, *session, "--dropout", "0.5", "--batch-size", "8")
    assert list(found) == ["b3", "next"]
    b3, second = found.values()
    assert (b3.backbone, b3.image_size, b3.dropout, b3.batch_size) == (
        *("EfficientNetB3", (300, 400), 0.5, 8),
    )
    quick = kernel.RECIPES["quick"]
    assert (second.backbone, second.image_size) == ("ConvNeXtTiny", quick.image_size)
    assert (second.dropout, second.batch_size) == (quick.dropout, 32)
    assert [stage.epochs for stage in second.stages] == [1, 4, 4, 4]
    assert [stage.epochs for stage in b3.stages] == [1, 12, 12, 12]
    for member in found.values():
        assert (member.seed, member.folds, member.time_limit, member.tta) == (7, 3, 60, 2)
        assert (member.exclude, member.validation_share) == ("bad.csv", 0.2)


def test_a_member_has_its_backbone_s_size_where_none_is_asked_for():
    b5, mobile = members("--members", "a:EfficientNetB5,b:MobileNet").values()
    assert (b5.image_size, mobile.image_size) == ((456, 608), (224, 288))


def test_the_reference_as_a_member_is_as_it_scored():
    (member,) = members("--members", "ref:InceptionV3:recipe=reference").values()
    reference = kernel.RECIPES["reference"]
    for name in ("image_size", "input_range", "stages", "head", "schedule", "augmentation"):
        assert getattr(member, name) == getattr(reference, name)


def test_a_later_session_may_have_more_members_and_the_finished_ones_still_count():
    one, two = members("--members", TWO_MEMBERS), members("--members", TWO_MEMBERS + ",c:Xception")
    for name in ("b3", "next"):
        assert decisive(one[name]) == decisive(two[name])


def test_epochs_is_the_most_of_every_member():
    for member in members("--members", TWO_MEMBERS, "--epochs", "2").values():
        assert [stage.epochs for stage in member.stages] == [1, 2, 2, 2]


def test_one_network_alone_has_the_name_of_its_backbone():
    found = members("--backbone", "xception")
    assert found == {"Xception": final_config("--data", ".", "--backbone", "xception")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:resnet", "in 'a:resnet', backbone: 'resnet' is not one of Plain, MobileNet"),
        ("a:Xception:recipe=best", "recipe: 'best' is not one of default, quick"),
        ("a:Xception:image_size=8", "image_size: 8 must be at least 32 and at most 2048"),
        ("a:Xception,a:MobileNet", "the name 'a' stands in 2 rows"),
        ("a:Xception:epochs=2", "is not of the form name:backbone[:image_size=...][:recipe=...]"),
    ],
)
def test_a_wrong_member_ends_with_2_and_one_sentence(text, said, capsys):
    with pytest.raises(SystemExit) as stop:
        config("--members", text)
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "argument --members: " in last
    assert said in last


def test_show_config_lists_the_weights_of_all_members(capsys):
    names = "a:Xception,b:ConvNeXtTiny,c:Xception"
    shown = shown_config(capsys, "--members", names)
    assert shown["weights_files"] == [
        "convnext_tiny_notop.h5",
        "xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ]
    assert [member["name"] for member in shown["config"]["members"]] == ["a", "b", "c"]


def test_show_config_lists_the_presets_that_the_members_use(capsys):
    names = "a:SigLIP2B,b:MobileNet,c:SigLIP2B,d:DINOv2B"
    shown = shown_config(capsys, "--members", names)
    assert shown["model_sources"] == [
        "keras/dinov2/keras/dinov2_base/1",
        "keras/siglip/keras/siglip2_base_patch16_384/1",
    ]
    assert shown["weights_files"] == ["mobilenet_1_0_224_tf_no_top.h5"]
    assert shown_config(capsys, "--members", names, "--weights", "none")["model_sources"] == []
    assert shown_config(capsys)["model_sources"] == []


def test_show_config_lists_what_every_candidate_needs(capsys):
    shown = shown_config(capsys, "--recipe", "max")
    rows = [kernel.BACKBONES[each.backbone] for each in kernel.RECIPES["max"].candidates]
    assert shown["model_sources"] == sorted({row.handle for row in rows if row.handle})
    assert "convnext_base_notop.h5" in shown["weights_files"]
    assert list(shown["members"]) == [each.name for each in kernel.RECIPES["max"].candidates]
    by_hand = shown_config(capsys, "--recipe", "max", "--members", "a:MobileNet")
    assert list(by_hand["members"]) == ["a"]
    assert by_hand["model_sources"] == []


def test_rates_are_the_backbone_s_unless_they_are_given():
    tower = final_config("--data", ".", "--backbone", "siglip2b")
    assert (tower.head_rate, tower.layer_decay, tower.weight_decay) == (10, 0.75, 0.05)
    assert [stage.name for stage in tower.stages] == ["head", "all"]
    assert tower.stages[1].learning_rate == pytest.approx(1e-5)
    asked = ("--layer-decay", "0.9", "--head-rate", "1", "--stages", "all:1:1e-2:3")
    given = final_config("--data", ".", "--backbone", "siglip2b", *asked)
    assert (given.head_rate, given.layer_decay, len(given.stages)) == (1, 0.9, 1)
    assert final_config("--data", ".").layer_decay == 1


@pytest.mark.parametrize("name", sorted(set(kernel.BACKBONES) - {"TinyNet"}))
def test_every_backbone_says_where_its_weights_are(name):
    """A file that the manifest names, or a handle of five parts as Kaggle's client wants it."""
    manifest = json.loads((KERNEL.parent / "lib" / "weights" / "manifest.json").read_text())
    handle = kernel.BACKBONES[name].handle.split("/")
    assert (name in manifest) == (handle == [""])
    assert handle == [""] or (len(handle) == 5 and handle[-1].isdigit())


@pytest.mark.parametrize("recipe", kernel.RECIPES)
def test_every_recipe_resolves_to_members_whose_backbones_exist(recipe):
    found = members("--recipe", recipe)
    assert found
    for member in found.values():
        assert member.backbone in kernel.BACKBONES
        assert min(member.image_size) >= 32
        assert member.stages
    rows = kernel.RECIPES[recipe].members or kernel.RECIPES[recipe].candidates
    assert len(found) == max(len(rows), 1)


@pytest.mark.parametrize(
    "stages",
    [
        kernel.DEFAULT_STAGES,
        kernel.RECIPES["reference"].stages,
        (
            kernel.Stage("head", 0, 1e-3, 1, views=4),
            kernel.Stage("small", 0.5, 1e-4, 3, scale=0.75, mixup=0.2),
            kernel.Stage("full", 1, 3e-5, 3, scale=1.25, mixup=0.1, cutmix=1.0, pseudo=0.95),
        ),
    ],
)
def test_the_text_of_stages_reads_back(stages):
    assert config("--stages", text_of(stages)).stages == stages


class TestFinding:
    """What is mounted where, and what is said when nothing or too much is."""

    @pytest.fixture
    def inputs(self, tmp_path, monkeypatch):
        monkeypatch.setattr(kernel, "ROOT", tmp_path)
        monkeypatch.setattr(kernel, "ON_KAGGLE", True)
        (tmp_path / "input").mkdir()
        return tmp_path / "input"

    def mount(self, folder):
        folder.mkdir(parents=True)
        for name in ("train.csv", "sample-submission.csv"):
            (folder / name).write_text("Id,Category\n")
        return folder

    def find(self, tmp_path):
        return kernel.find_competition(None, tmp_path, 0)

    @pytest.mark.parametrize(
        "place",
        [
            "sf-dl-car-classification",
            "competitions/sf-dl-car-classification",
            "datasets/someone/sf-dl-car-classification",
            "cars/under/another/name",
        ],
    )
    def test_wherever_it_is_mounted(self, inputs, tmp_path, place):
        folder = self.mount(inputs / place)
        assert self.find(tmp_path) == folder

    def test_the_known_place_wins(self, inputs, tmp_path):
        folder = self.mount(inputs / "competitions" / "sf-dl-car-classification")
        self.mount(inputs / "old-copy")
        assert self.find(tmp_path) == folder

    def test_nothing_says_what_to_attach(self, inputs, tmp_path):
        with pytest.raises(Problem, match=r"Found no .*train\.csv.*attach the competition"):
            self.find(tmp_path)

    def test_several_are_named(self, inputs, tmp_path):
        self.mount(inputs / "copy-a")
        self.mount(inputs / "copy-b")
        with pytest.raises(Problem, match=r"more than one .*copy-a.*copy-b.*Detach"):
            self.find(tmp_path)


CORE = "kernelkit/core"


@pytest.mark.parametrize("mounted", [[], ["kernelkit"], [f"one/{CORE}", f"two/{CORE}"]])
def test_without_one_lib_dataset_a_sentence_says_what_to_attach(tmp_path, mounted):
    """There is none, one of an older version, or more than one."""
    script = tmp_path / "script.py"
    script.write_text(KERNEL.read_text())
    for package in mounted:
        (tmp_path / "input" / "lib" / package).mkdir(parents=True)
        (tmp_path / "input" / "lib" / package / "boundary.py").write_text("")
    environment = {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_ROOT": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"Found {len(mounted) // 2 * 2} folders with our packages" in done.stderr
    assert "attach the dataset of lib/" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_choices_defaults_and_groups(capsys):
    with pytest.raises(SystemExit) as stop:
        kernel.read_arguments(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--unfreeze VALUE unfreeze blocks or layers [blocks, layers] (default: blocks)" in text
    assert "EfficientNetV2M" in text
    for group in ("network:", "unfreezing:", "optimizer:", "photos:", "prediction:", "session:"):
        assert group in text


def test_a_size_that_is_asked_for_is_that_of_every_member_without_its_own():
    found = members("--image-size", "64", "--members", "big:Plain,small:Plain:image_size=48")
    assert {name: each.image_size for name, each in found.items()} == {
        "big": (64, 64),
        "small": (48, 48),
    }
    found = members("--members", "big:Plain,small:Plain:image_size=48")
    assert found["big"].image_size == (72, 96)


def planned(own_competition, *arguments) -> int:
    return kernel.main([*TINY, "--data", str(own_competition), "--plan", *arguments])


def test_a_plan_writes_nothing_at_all(own_competition, tmp_path, monkeypatch, capsys):
    """Neither in the current folder, nor for results that are there, nor in temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    for name in ("temporary", "output/state", "output/members/anna"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("output/state/mine", "output/members/anna/mine", "output/photos.csv"):
        (tmp_path / name).write_text("a person's")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert planned(own_competition, "--fresh") == 0
    assert "plan: 1 network" in capsys.readouterr().out
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("option", ["--weights", "--output"])
def test_a_plan_names_what_the_run_could_not_use(own_competition, tmp_path, capsys, option):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "within"
    assert planned(own_competition, option, str(path)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert option in line
    assert str(path) in line


def test_the_command_line_decides_fields_of_the_block(
    own_competition, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert planned(own_competition, "--set", "metric=rmse") == 1
    assert "'rmse'" in capsys.readouterr().err
    assert planned(own_competition, "--set", "metrik=auc") == 1
    assert "did you mean metric?" in capsys.readouterr().err
    assert planned(own_competition, "--set", "train_csv=labels.csv") == 1
    assert "There is no labels.csv" in capsys.readouterr().err
    assert planned(own_competition, "--set", "metric=kappa") == 0


def test_a_folder_that_is_missing_is_named_before_weights_are_looked_for(tmp_path, capsys):
    arguments = ["--data", str(tmp_path / "cars"), "--output", str(tmp_path / "out")]
    assert kernel.main([*arguments, "--backbone", "EfficientNetB3"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--data {tmp_path / 'cars'}: there is no such folder" in line
    assert not (tmp_path / "out").exists()


def test_a_folder_in_doubt_ends_with_its_block_and_the_option_that_decides(tmp_path, capsys):
    data = tmp_path / "data"
    for name in [
        *(f"train/{kind}.{n}.jpg" for kind in ("cat", "dog") for n in range(9)),
        "test/1.jpg",
    ]:
        write_photo(data / name)
    write_csv(data / "sample_submission.csv", [("1", "0.5")], ("id", "label"))
    assert kernel.main([*TINY, "--data", str(data), "--output", str(tmp_path / "out")]) == 1
    told = capsys.readouterr()
    assert "COMPETITION = Layout(\n" in told.out
    assert "--set positive=dog" in told.err
    assert planned(data, "--set", "positive=dog", "--output", str(tmp_path / "out")) == 0


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        (lambda h, w: kernel.A.Compose([kernel.A.Resize(h - 8, w)]), "(16, 32, 3)"),
        (lambda h, w: kernel.A.Compose([kernel.A.ToFloat()]), "float32"),
        (lambda h, w: kernel.A.Compose([kernel.A.CenterCrop(999, 999)]), "fails"),
    ],
)
def test_a_wrong_augmentation_is_told_before_anything_trains(
    own_competition, tmp_path, monkeypatch, capsys, augment, said
):
    monkeypatch.setitem(kernel.AUGMENTATIONS, "default", augment)
    monkeypatch.chdir(tmp_path)
    assert planned(own_competition) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the augmentation 'default'" in line
    assert said in line


def test_missing_weights_are_named_before_photos_are_read(own_competition, tmp_path, capsys):
    arguments = [*TINY, "--weights", str(tmp_path / "none.h5"), "--output", str(tmp_path / "out")]
    assert kernel.main([*arguments, "--data", str(own_competition)]) == 1
    told = capsys.readouterr()
    assert "none.h5: no such file" in told.err
    assert "photos from" not in told.out


def test_pasted_into_a_cell_it_runs_from_the_folder_that_it_is_in():
    """There is no __file__ there, and the command line is Jupyter's own."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; exec(sys.stdin.read())", "-f", "kernel-1.json"],
        input=KERNEL.read_text().replace("    main([])\n", '    print("begins with", LIB)\n'),
        capture_output=True,
        text=True,
        check=False,
        cwd=KERNEL.parent,
    )
    assert f"begins with {KERNEL.parent / 'lib'}" in done.stdout, done.stderr
