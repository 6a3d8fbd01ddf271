# ruff: noqa: SIM905 (a list of so many words is easier to read as text)
"""Words of command lines and YAML files that are odd, wrong or hostile, for the fuzz tests."""

VARIABLE = "MNISTLAB_TEST_VARIABLE"  # of the environment, in REFERENCES
NUMBERS = """
0 -1 1 2 0.5 1e3 1e400 nan inf -inf .inf 999999999999999999999999999999 4294967296 -0.0 1e-320 1_000 0x10 1/255 007
1e30 -1e30 1. .5 +1 --1 1e 100000
""".split()
NUMBERS += ["9" * 5000]
WORDS = """
true false null none auto all best last sgd x é 日本 a,b '' 'a' ' %s {} {0} %(a)s [ ] { } [] [1,2] [[1],{a:1}] {a:1}
{a:{b:[1]}} {a:1 {a} {1:2} [,] ( () keras.optimizers.SGD os.system builtins.open https://a:b@c /dev/null/x ~ a=b @ #
- -- {_target_:os.getpid} * !x
""".split()
WORDS += [
    "a b",
    "a\nb",
    "a\tb",
    "",
    " ",
    '""',
    '"a',
    "\\",
    "\\'",
    "\x07",
    "\x1b[31m",
    "\x00",
    "\udcff",
    "[" * 200 + "]" * 200,
    "{a:" * 200 + "1" + "}" * 200,
    "[" * 3000,
    "x" * 100_000,
]
REFERENCES = """
${seed} ${fit} ${fit.epochs} ${KEY} ${x} ${} ${ $ ${.seed} ${..seed} ${oc.env:MNISTLAB_TEST_VARIABLE}
${oc.env:NOT_SET} ${oc.env:NOT_SET,3} ${oc.env:} ${oc.decode:'['} ${oc.create:{a:1}} ${now:%Y} ${now:}
${hydra:runtime.cwd} ${hydra:job.num} ${hydra:nosuch} ${project_root:} ${project_root:x} ${oc.select:seed}
${oc.dict.keys:fit} ${oc.deprecated:seed} ${nosuch:1} ${python_version:} ${${seed}} ${oc.env:${run.name}} '${seed}'
a${seed}b ${oc.dict.values:fit} ${optimizer} [${seed}] {a:${seed}} ${oc.create:${KEY}} ${fit.epochs.x} ${seed.x}
""".split()  # KEY is the setting itself
REFERENCES += ["\\${x}", "${" * 100 + "seed" + "}" * 100]
SWEEPS = """
1,2 1, , range(0,3) range(3) range(0,3,0) range(3,0) range(0,1e400) choice(1,2) choice() interval(0,1) glob(*)
glob([a,b]) sort(3,1) sort(1,a) shuffle(range(0,3)) int(x) int(1.5) float(x) bool(2) str(1) json_str({a:1})
tag(a,choice(1)) extend_list(1) nosuch(1) range(a,b) range(0,1000000000) range(0,3,1e-9) choice(sgd,choice(1))
int(9999999999999999999999) cast(1)
""".split()
ODD_KEYS = """
. .. a fit. .fit fit..epochs fit.epochs.x é fit[0] fit.metrics.0 _target_ optimizer._target_ model._target_
source._target_ callbacks.a._target_ defaults _self_ choices overrides from_environment config_dir sweep_job
choices.a trust hydra schema init.x optimizer.inner data.augmentation.rotation_range data.class_weight.0
callbacks.early_stopping $ {} optimizer@x optimizer@model optimizer@a:b /optimizer optimizer/ experiment fit@x @
a/b/c -
""".split()
ODD_KEYS += ["", "a b", "a" * 5000]
OF_HYDRA = """
hydra.mode hydra.verbose hydra.job.name hydra.job.config hydra.searchpath hydra.output_subdir hydra.nosuch
hydra/launcher hydra/sweeper hydra.sweeper.params hydra.callbacks hydra.runtime.cwd hydra.callbacks.a._target_
hydra/job_logging hydra.job.env_set hydra.overrides.task hydra.job_logging
""".split()
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)
ODD_FILES = [
    "",
    "---",
    "...",
    "--- 1\n--- 2",
    "null",
    "5",
    "text",
    "- 1\n- 2",
    "fit: 3",
    "fit: null",
    "fit: []",
    "optimizer: sgd",
    "? [1, 2]\n: 3",
    "? {a: 1}\n: 3",
    "1: 2\nnull: 3\ntrue: 4",
    "2001-01-01: 5",
    "a: 2001-01-01",
    "a: !!binary aGVsbG8=",
    "a: !!set {b, c}",
    "a: !!omap [b: 1]",
    "a: !!timestamp 1",
    "a: !!python/object/apply:os.mkdir [harm_was_done]",
    "!!python/object/new:os.mkdir [harm_was_done]",
    "a: !!python/name:antigravity.x",
    "a: !!python/module:this",
    "a: !nosuch 1",
    "a: &a [*a]",
    "a: &a {b: *a}",
    "&a a: *a",
    "a: *nosuch",
    "<<: {fit: {epochs: 2}}",
    "<<: 5",
    "<<: [1]",
    LAUGHS,
    LAUGHS.replace("[", "{p: [").replace("]", "]}"),
    "fit: " + "[" * 300 + "]" * 300,
    "fit: " + "{a: " * 300 + "1" + "}" * 300,
    "[" * 2_000,
    "- " * 2_000,
    "a: " + "x" * 1_000_000,
    "fit:\n  epochs: " + "9" * 5000,
    "seed: 1:30",
    "seed: 0b11",
    "seed: .nan",
    "seed: ${seed}",
    "seed: ${fit.epochs}",
    "fit: ${fit}",
    "run: {name: '${oc.env:NOT_SET}'}",
    "run: {name: '${'}",
    "defaults: 5",
    "defaults: {a: 1}",
    "defaults: [5]",
    "defaults: [null]",
    "defaults: [{}]",
    "defaults: [[a]]",
    "defaults: [{optimizer: null}]",
    "defaults: [{optimizer: sgd}]",
    "defaults: [optimizer: sgdd]",
    "defaults: [override /optimizer: sgd]",
    "defaults: [override /optimizer: sgdd]",
    "defaults: [override /nosuch: sgd]",
    "defaults: [/optimizer: [sgd, adam]]",
    "defaults: [/optimizer@fit: sgd]",
    "defaults: [mine]",
    "defaults: [/experiment: mine]",
    "defaults: [../../../../etc/passwd]",
    "defaults: [_self_, _self_]",
    "defaults: [optional nosuch: x]",
    "defaults: [{optional /optimizer: '${seed}'}]",
    "defaults: [{a: 1, b: 2}]",
    "optimizer: {_target_: os.mkdir, path: harm_was_done}",
    "optimizer: {_target_: antigravity.x}",
    "optimizer: {_target_: [1]}",
    "optimizer: {_target_: 5}",
    "optimizer: {_target_: ''}",
    "_target_: os.mkdir",
    "_target_: {a: 1}",
    "_target_: keras.optimizers.SGD\n_args_: [1]\n_recursive_: x\n_convert_: y\n_partial_: 7",
    "hydra: {run: {dir: /nosuch}}",
    "hydra: 5",
    "hydra: {searchpath: [pkg://antigravity]}",
    "hydra: {callbacks: {a: {_target_: os.mkdir}}}",
    "trust: [antigravity]",
    "choices: {a: 1}\noverrides: [1]",
    "sweep_job: {name: x}",
    "fit: {epochs: ???}",
    "fit: ???",
    "fit: {metrics: [[accuracy]]}",
    "fit: {metrics: [{_target_: os.mkdir}]}",
    "callbacks: [early_stopping]",
    "callbacks: {a: 5, b: null, c: [1], d: {}}",
    "data: {class_weight: {a: b, [1]: 2}}",
    "data: {class_weight: {1: 2, '1': 3}}",
    "# @package fit\nepochs: 3",
    "# @package _group_\nepochs: 3",
    "# @package a.b.c\nepochs: 3",
    "# @package ${seed}\nepochs: 3",
    "# @package\nepochs: 3",
    "%YAML 9.9\n---\na: 1",
    "%TAG ! tag:x,2000:\n---\na: !b 1",
    "\ufeffseed: 1",
    "a: \x07",
    "a: '\x00'",
    "a\tb: 1",
]
