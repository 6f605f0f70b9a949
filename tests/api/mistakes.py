#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The typical mistakes, each compiled: it is an error, whose words are in shunt-troubleshooting(7).

usage: mistakes.py INCLUDE LIB PAGE [all]

A row is a mistake: the file, and words that each compiler or linker says (of a tuple, one), and words that
the manual page has. The control of each is its right form, which must compile: in one file with the others, each
with names of its own, and alone where that fails. Without "all", gcc has each row in its first language; in the second one, and clang,
where other words are said; what has several modules gcc alone.
"""
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok, skip

INCLUDE, LIB, PAGE = sys.argv[1:4]
ALL = "all" in sys.argv[4:]
SHOW = "show" in sys.argv[4:]
HEAD = """#include <shunt/static_call.h>
#include <shunt/static_key.h>
int one(int x); long other(long x); void nothing(int x);
int one(int x) { return x; }
long other(long x) { return x; }
void nothing(int x) { (void)x; }
"""
CALL = "DEFINE_STATIC_CALL(op, one);\n"
KEY = "DEFINE_STATIC_KEY_FALSE(flag);\n"
MAIN = "int main(void) { return 0; }\n"


def inside(text):
    return "int main(void) { " + text + " return 0; }\n"


# name, languages, wrong, right, words of gcc (g++), words of clang (clang++), words in the page
ROWS = [
    ("another type in an update", "c", CALL + inside("return static_call_update(op, other);"),
     CALL + inside("return static_call_update(op, one);"),
     ["shunt_function_of_another_type", "int (*)(int)"], ["shunt_function_of_another_type", "int (*)(int)"],
     "shunt_function_of_another_type"),
    ("another type in an update, C++", "c++", CALL + inside("return static_call_update(op, other);"),
     CALL + inside("return static_call_update(op, one);"),
     ["invalid conversion from", "int (*)(int)"], ["cannot initialize", "int (*)(int)"], "invalid conversion from"),
    ("no DECLARE_STATIC_CALL", "c c++", inside("return static_call(op)(1);"), CALL + inside("return static_call(op)(1);"),
     ["__SCT__op"], ["__SCT__op"], "__SCT__key"),
    ("no DECLARE_STATIC_KEY", "c c++", inside("if (static_branch_likely(&flag)) return 1;"),
     KEY + inside("if (static_branch_likely(&flag)) return 1;"), ["flag"], ["flag"], "undeclared"),
    ("no DEFINE_STATIC_CALL", "c c++", "DECLARE_STATIC_CALL(op, one);\n" + inside("return static_call(op)(1);"),
     CALL + inside("return static_call(op)(1);"), ["undefined reference to", "__SCT__op"],
     ["undefined reference to", "__SCT__op"], "undefined reference to"),
    ("no DEFINE_STATIC_KEY", "c c++", "DECLARE_STATIC_KEY_FALSE(flag);\n" + inside("return static_branch_likely(&flag);"),
     KEY + inside("return static_branch_likely(&flag);"), ["undefined reference to", "__SKF__flag"],
     ["undefined reference to", "__SKF__flag"], "__SKF__key"),
    ("declared TRUE, defined FALSE", "c", [KEY, "DECLARE_STATIC_KEY_TRUE(flag);\n" + inside("return static_branch_likely(&flag);")],
     [KEY, "DECLARE_STATIC_KEY_FALSE(flag);\n" + inside("return static_branch_likely(&flag);")],
     ["undefined reference to", "__SKT__flag"], ["undefined reference to", "__SKT__flag"], "__SKT__key"),
    ("two DEFINE_STATIC_CALL in a file", "c c++", CALL + CALL + MAIN, CALL + MAIN, ["redefinition of", "__SCK__op"],
     ["redefinition of", "__SCK__op"], "redefinition of"),
    ("two DEFINE_STATIC_KEY in a file", "c c++", KEY + KEY + MAIN, KEY + MAIN,
     ["redefinition of", "__shunt_defines_static_key_flag"], ["redefinition of", "__shunt_defines_static_key_flag"],
     "__shunt_defines_static_key_"),
    ("two DEFINE_STATIC_CALL in two files", "c", [CALL + MAIN, CALL.replace("one", "two").replace("DEF", "int two(int x);\nint two(int x) { return x; }\nDEF")],
     [CALL + MAIN, ""], ["multiple definition of", "__SC"], ["multiple definition of", "__SC"], "multiple definition of"),
    ("two static keys of a name in two files", "c", ["static " + KEY + MAIN, "static " + KEY], ["static " + KEY + MAIN, ""],
     ["multiple definition of", "__SK__flag"], ["multiple definition of", "__SK__flag"], "__SK__key"),
    ("a key in two namespaces", "c++", "namespace a { " + CALL + "} namespace b { " + CALL + "}\n" + MAIN,
     "namespace a { " + CALL + "}\n" + MAIN, ["__SC"], ["__SC"], "namespaces"),
    ("a static key in two namespaces", "c++", "namespace a { " + KEY + "} namespace b { " + KEY + "}\n" + MAIN,
     "namespace a { " + KEY + "}\n" + MAIN, ["flag"], ["flag"], "namespaces"),
    ("in a class", "c++", "class c { " + CALL + "};\n" + MAIN, CALL + MAIN, ["expected"], ["expected"], "in a class"),
    ("a static key in a class", "c++", "class c { " + KEY + "};\n" + MAIN, KEY + MAIN, ["expected"], ["expected"], "in a class"),
    ("in a function", "c c++", inside(CALL), CALL + MAIN, [("__SCK__op", "expected unqualified-id")], [("__SCK__op", "expected unqualified-id")], "in a function"),
    ("a static key in a function", "c c++", inside(KEY), KEY + MAIN, ["flag"], ["flag"], "in a function"),
    ("without &", "c c++", KEY + inside("return static_branch_likely(flag);"), KEY + inside("return static_branch_likely(&flag);"),
     ["flag"], ["flag"], "&"),
    ("by a pointer", "c c++", KEY + "int test(struct static_key_false *k); int test(struct static_key_false *k)"
     " { return static_branch_likely(k); }\n" + MAIN,
     KEY + "int test(void); int test(void) { return static_branch_likely(&flag); }\n" + MAIN,
     ["asm"], [("asm", "implicitly captured")], "impossible constraint"),
    ("a variable index", "c c++", "DEFINE_STATIC_KEY_ARRAY_FALSE(flags, 3);\nint test(int i); int test(int i)"
     " { return static_branch_likely(&flags[i]); }\n" + MAIN,
     "DEFINE_STATIC_KEY_ARRAY_FALSE(flags, 3);\nint test(void); int test(void) { return static_branch_likely(&flags[1]); }\n" + MAIN,
     ["asm"], [("asm", "implicitly captured")], "implicitly captured"),
    ("DEFINE_STATIC_CALL(op, 0)", "c c++", "DEFINE_STATIC_CALL(op, 0);\n" + MAIN, "DEFINE_STATIC_CALL_NULL(op, nothing);\n" + MAIN,
     ["unary '*'"], ["indirection requires pointer operand"], "unary"),
    ("NULL for a function with a result", "c c++", "DEFINE_STATIC_CALL_NULL(op, one);\n" + MAIN,
     "DEFINE_STATIC_CALL_NULL(op, nothing);\n" + MAIN, ["a NULL static call has no value"], [("a NULL static call has no value", "incompatible function type")],
     "a NULL static call has no value"),
    ("noexcept", "c++", "int quiet(int x) noexcept; int quiet(int x) noexcept { return x; }\nDEFINE_STATIC_CALL(op, quiet);\n"
     + inside("return static_call_update(op, one);"),
     "int quiet(int x) noexcept; int quiet(int x) noexcept { return x; }\nDEFINE_STATIC_CALL(op, one);\n"
     + inside("return static_call_update(op, quiet);"), ["noexcept"], ["noexcept"], "noexcept"),
    ("& in front of a static call's key", "c c++", CALL + inside("return static_call_update(&op, one);"),
     CALL + inside("return static_call_update(op, one);"), ["pasting", "valid preprocessing token"], ["pasting formed"], "pasting"),
    ("a static call's key in quotation marks", "c c++", CALL + inside("return static_call_update(\"op\", one);"),
     CALL + inside("return static_call_update(op, &one);"), ["pasting", "valid preprocessing token"], ["pasting formed"], "pasting"),
    ("a test of &key.key", "c", KEY + inside("return static_branch_likely(&flag.key);"),
     KEY + inside("return static_branch_likely(&flag);"), ["'_Generic' selector of type 'struct static_key *'"],
     ["controlling expression type 'struct static_key *'"], "'_Generic' selector of type 'struct static_key"),
    ("a test of &key.key, C++", "c++", KEY + inside("return static_branch_likely(&flag.key);"),
     KEY + inside("return static_branch_likely(&flag);"), ["__shunt_initial_value(static_key*)"],
     ["no matching function for call to '__shunt_initial_value'"], "__shunt_initial_value"),
    ("a switch of &key.key", "c c++", KEY + inside("return static_branch_enable(&flag.key);"),
     KEY + inside("return static_branch_enable(&flag);"), ["no member named 'key'"], ["no member named 'key'"],
     "no member named 'key'"),
    ("EXPORT_STATIC_KEY in front of the definition", "c c++", "EXPORT_STATIC_KEY(flag);\n" + KEY + MAIN,
     KEY + "EXPORT_STATIC_KEY(flag);\n" + MAIN, ["stands behind its DEFINE_STATIC_KEY"], ["stands behind its DEFINE_STATIC_KEY"],
     "stands behind its DEFINE_STATIC_KEY"),
    ("EXPORT_STATIC_KEY of a static call", "c", CALL + "EXPORT_STATIC_KEY(op);\n" + MAIN,
     CALL + "EXPORT_STATIC_CALL(op);\n" + MAIN, ["stands behind its DEFINE_STATIC_KEY"], ["stands behind its DEFINE_STATIC_KEY"],
     "stands behind its DEFINE_STATIC_KEY"),
    ("EXPORT_STATIC_CALL in front of the definition", "c c++", "EXPORT_STATIC_CALL(op);\n" + CALL + MAIN,
     CALL + "EXPORT_STATIC_CALL(op);\n" + MAIN, ["stands behind its DEFINE_STATIC_CALL"],
     ["stands behind its DEFINE_STATIC_CALL"], "stands behind its DEFINE_STATIC_CALL"),
    ("EXPORT_STATIC_CALL of a static key", "c", KEY + "EXPORT_STATIC_CALL(flag);\n" + MAIN,
     KEY + "EXPORT_STATIC_KEY(flag);\n" + MAIN, ["stands behind its DEFINE_STATIC_CALL"],
     ["stands behind its DEFINE_STATIC_CALL"], "stands behind its DEFINE_STATIC_CALL"),
    ("a key that is switched without &", "c c++", KEY + inside("return static_branch_enable(flag);"),
     KEY + inside("return static_branch_enable(&flag);"), ["->"], ["is not a pointer"], "member reference type"),
    ("a key that is called by its name", "c c++", CALL + inside("return op(1);"), CALL + inside("return static_call(op)(1);"),
     [("implicit declaration of function 'op'", "'op' was not declared")], ["'op'"], "called by its name"),
    ("a static call without its arguments", "c c++", CALL + inside("int x = static_call(op); return x;"),
     CALL + inside("int x = static_call(op)(1); return x;"), ["int (*)(int)"], ["int (int)"], "without its arguments"),
    ("static in front of a static call", "c c++", "static " + CALL + MAIN, CALL + MAIN,
     [("useless storage class", "expected unqualified-id")], [("'static' ignored", "expected unqualified-id")], "useless storage class"),
    ("the value of static_call_cond", "c c++", CALL + inside("return static_call_cond(op)(1);"), CALL + inside("static_call_cond(op)(1);"),
     ["void value not ignored"], ["'void'"], "void value not ignored"),
    ("an array of keys with a count that is no number", "c c++", "enum { N = 3 };\nDEFINE_STATIC_KEY_ARRAY_FALSE(flags, N);\n" + MAIN,
     "#define N 3\nDEFINE_STATIC_KEY_ARRAY_FALSE(flags, N);\n" + MAIN, ["irreducible absolute expression"], ["'.rept' directive"],
     "irreducible absolute expression"),
    ("an overloaded function", "c++", "double one(double x);\n" + CALL + MAIN,
     "double one(double x);\nDEFINE_STATIC_CALL(op, static_cast<int (*)(int)>(one));\n" + MAIN,
     ["__shunt_is_constant", "overloaded function"], ["__shunt_is_constant", "overloaded function"], "overloaded function"),
    ("a member function", "c++", "struct s { int f(int x) { return x; } };\nDEFINE_STATIC_CALL(op, &s::f);\n" + MAIN,
     "struct s { static int f(int x) { return x; } };\nDEFINE_STATIC_CALL(op, s::f);\n" + MAIN,
     ["__shunt_is_constant"], ["__shunt_is_constant"], "__shunt_is_constant"),
    ("a lambda in a definition", "c++", "DEFINE_STATIC_CALL(op, [](int x) { return x; });\n" + MAIN,
     CALL + inside("return static_call_update(op, [](int x) { return x; });"),
     ["__shunt_is_constant"], ["__shunt_is_constant"], "lambda"),
    ("a lambda that captures", "c++", CALL + inside("int y = 1; return static_call_update(op, [y](int x) { return x + y; });"),
     CALL + inside("return static_call_update(op, [](int x) { return x; });"),
     ["cannot convert"], ["no viable conversion"], "captures"),
    ("a namespace in front of a static call's key", "c++", "namespace n { " + CALL + "}\n" + inside("return static_call(n::op)(1);"),
     "namespace n { " + CALL + "}\n" + inside("using namespace n; return static_call(op)(1);"),
     ["__SCT__n"], ["__SCT__n"], "namespace::key"),
    ("no semicolon behind a definition", "c c++", CALL.replace(";", "") + MAIN, CALL + MAIN, ["expected ';'"], ["expected ';'"], "no semicolon"),
    ("no semicolon behind a static key", "c c++", KEY.replace(";", "") + MAIN, KEY + MAIN,
     ["two or more data types"], ["expected ';' after"], "no semicolon"),
    ("a declaration of another type", "c c++", "DECLARE_STATIC_CALL(op, other);\n" + CALL + MAIN, "DECLARE_STATIC_CALL(op, one);\n" + CALL + MAIN,
     ["conflicting", "__SCT__op"], [("conflicting types", "cannot be overloaded")], "conflicting"),
    ("the kernel's old interface", "c", "struct static_key k = STATIC_KEY_INIT_FALSE;\n" + MAIN, KEY + MAIN,
     ["STATIC_KEY_INIT_FALSE"], ["STATIC_KEY_INIT_FALSE"], "STATIC_KEY_INIT_FALSE"),
    ("an error that is not looked at", "c c++", CALL + inside("static_call_update(op, one);"),
     CALL + inside("if (static_call_update(op, one)) return 1;"), ["unused-result"], ["unused-result"], "unused-result"),
]

COMPILERS = {"c": (("gcc", "-std=c11"), ("clang", "-std=c11")), "c++": (("g++", "-std=c++17"), ("clang++", "-std=c++17"))}


def is_linked(words):
    """Whether it is the linker that sees it: only then the right form needs one."""
    return bool({"undefined reference to", "multiple definition of"} & set(words))


def hashable(parts):
    return parts if isinstance(parts, str) else tuple(parts)


@functools.cache
def build(folder, command, language, parts, link=True):
    """(whether it was made without a warning, what was said)"""
    files = []
    for number, part in enumerate([parts] if isinstance(parts, str) else parts):
        files.append(os.path.join(folder, f"part{number}.{'cc' if language == 'c++' else 'c'}"))
        with open(files[-1], "w", encoding="utf-8") as file:
            file.write((HEAD if number == 0 else '#include <shunt/static_call.h>\n#include <shunt/static_key.h>\nint one(int x);\n') + part)
    out = ["-o", os.path.join(folder, "out")]
    how = [*out, "-Wl,--emit-relocs", "-L", LIB, "-lshunt"] if link else ["-c", *out]
    done = subprocess.run([*command, "-O0", "-Wall", "-Werror", "-I", INCLUDE, *files, *how], capture_output=True, text=True,
                          check=False, env=os.environ | {"LC_ALL": "C"})
    return done.returncode == 0, done.stderr


# What right forms define; "one" is overloaded in one of them.
DEFINED = re.compile(r"\b(op|flag|flags|main|test|quiet|[askn]|N)\b")


def is_alone(right, words):
    return is_linked(words) or not isinstance(right, str) or "double one" in right


def compile_together(folder, command, language, gcc_or_clang):
    """Whether all right forms of a language compile in one file."""
    texts = [row[3] for row in ROWS if language in row[1].split() and not is_alone(row[3], row[gcc_or_clang])]
    made, said = build(folder, command, language, "".join(DEFINED.sub(rf"\1_{number}", text) for number, text in enumerate(texts)),
                       link=False)
    if not made:
        print("# not together: " + said[:500].replace("\n", "\n# "))
    return made


def has(said, word):
    return any(one in said for one in ((word,) if isinstance(word, str) else word))


def unify(text):
    return re.sub("[\u2018\u2019`]", "'", text)


USES = """DECLARE_STATIC_CALL(op, one);
DECLARE_STATIC_KEY_FALSE(flag);
int use(void);
int use(void) { return static_call(op)(1) + static_branch_likely(&flag); }
"""
HOST = CALL + KEY + """EXPORTS
#include <dlfcn.h>
#include <stdio.h>
int main(int n, char **path) { if (dlopen(path[n - 1], RTLD_NOW)) return 0; fputs(dlerror(), stderr); return 1; }
"""
BOTH = "EXPORT_STATIC_CALL(op);\nEXPORT_STATIC_KEY(flag);"


def compile_module(folder, command, name, text, *how):
    """(whether it was made, what was said), of one file of a program of several modules"""
    source = os.path.join(folder, f"{name}.{'cc' if '++' in command[0] else 'c'}")
    with open(source, "w", encoding="utf-8") as file:
        file.write(HEAD.replace("int one(int x) {", "__attribute__((weak)) int one(int x) {") + text)
    done = subprocess.run([*command, "-D_GNU_SOURCE", "-Wall", "-Werror", "-fPIC", "-I", INCLUDE, source, "-o", os.path.join(folder, name), "-Wl,--emit-relocs",
                           f"-Wl,-rpath,{LIB}", "-L", LIB, *how, "-lshunt"], capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    return done.returncode == 0, done.stderr


def no_export(folder, command):
    """Yields (name, whether it went, what was said, words) of keys that another module uses."""
    library = os.path.join(folder, "libkeys.so")
    for what, exports, right in ("no EXPORT", "", False), ("control, the right form: no EXPORT", BOTH, True):
        made, said = compile_module(folder, command, "libkeys.so", CALL + KEY + exports + "\n", "-shared")
        if made:
            made, said = compile_module(folder, command, "user", USES + inside("return use();"), library, f"-Wl,-rpath,{folder}")
        yield what, made, right, said, ["undefined reference to", "__SCT__op", "__SKF__flag"]
    made, said = compile_module(folder, command, "plugin.so", USES, "-shared")
    yield "a plugin that uses keys", made, True, said, []
    for what, exports, dynamic, right in (("no EXPORT, a plugin", "", ["-rdynamic"], False), ("EXPORT in a program without -rdynamic", BOTH, [], False),
                                          ("control, the right form: EXPORT and -rdynamic", BOTH, ["-rdynamic"], True)):
        made, said = compile_module(folder, command, "host", HOST.replace("EXPORTS", exports), *dynamic, "-ldl")
        if not made:
            yield what, None, right, said, []
            continue
        done = subprocess.run([os.path.join(folder, "host"), os.path.join(folder, "plugin.so")], capture_output=True, text=True, check=False)
        yield what, done.returncode == 0, right, done.stderr, ["undefined symbol: __S"]


# What gold cannot do beside --emit-relocs, its words, and the same in a way that links.
GOLD = [
    (["-fuse-ld=gold", "-ffunction-sections", "-Wl,--gc-sections"], ["-fuse-ld=bfd", "-ffunction-sections", "-Wl,--gc-sections"], "internal error in do_layout"),
    (["-fuse-ld=gold", "-ffunction-sections", "-Wl,--icf=all"], ["-fuse-ld=gold", "-ffunction-sections"], "internal error in do_layout"),
    (["-fuse-ld=gold", "-O2", "-s"], ["-fuse-ld=gold", "-O2"], "internal error in set_no_output_symtab_entry"),
    (["-fuse-ld=gold", "-static-pie"], ["-fuse-ld=gold", "-pie"], "--no-dynamic-linker: unknown option"),
]


def check_gold(folder, page):
    if not shutil.which("ld.gold"):
        skip("gold", "no ld.gold")
        return
    for wrong, right, words in GOLD:
        text = CALL + inside("__builtin_puts(\"done\"); return static_call(op)(1) - 1;")
        made, said = compile_module(folder, ["gcc", "-std=c11"], "by_gold", text, *wrong)
        ok(not made and words in said, f"gold: {' '.join(wrong[1:])}", said, show=SHOW)
        made, said = compile_module(folder, ["gcc", "-std=c11"], "by_gold", text, *right)
        ok(made, f"control, linked another way: {' '.join(right)}", said, show=SHOW)
        ok(words in page, f"the page has: {words}")


def main():
    with open(PAGE, encoding="utf-8") as file:
        page = unify(file.read().replace("\\", ""))
    with tempfile.TemporaryDirectory() as folder:
        together = {command: compile_together(folder, command, language, 5 if "clang" in command[0] else 4)
                    for language, commands in COMPILERS.items() for command in commands}
        for name, languages, wrong, right, gcc, clang, in_page in ROWS:
            for language in languages.split():
                for command in COMPILERS[language]:
                    words = clang if "clang" in command[0] else gcc
                    # As gcc says it in the first language, and where another compiler has other words.
                    first, other_words = language == languages.split()[0], any(isinstance(word, tuple) for word in gcc)
                    if not ALL and (words is clang and (not first or clang == gcc) or
                                    words is gcc and not first and (not other_words or is_linked(words))):
                        continue
                    link = is_linked(words)
                    made, said = build(folder, command, language, hashable(wrong), link)
                    ok(not made and all(has(unify(said), word) for word in words), f"{command[0]}: {name}", said, show=SHOW)
                    made, said = together[command] and not is_alone(right, words), ""
                    if not made:
                        made, said = build(folder, command, language, hashable(right), link)
                    ok(made, f"{command[0]}: control, the right form: {name}", said, show=SHOW)
            ok(in_page in page, f"the page has: {in_page}")
        for command in COMPILERS["c"] + COMPILERS["c++"] if ALL else COMPILERS["c"][:1]:
            for what, went, right, said, words in no_export(folder, command):
                ok(went is right and (right or all(word in said for word in words)), f"{command[0]}: {what}", said, show=SHOW)
        for in_page in "EXPORT_STATIC_CALL", "undefined symbol: __SCT__key", "hidden symbol", "-rdynamic":
            ok(in_page in page, f"the page has: {in_page}")
        check_gold(folder, page)
    return finish()


sys.exit(main())
