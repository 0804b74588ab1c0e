"""Reading databases: SQLite files, and a PostgreSQL of the test's own where one is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from rows import each_row

from agentcall import ToolRegistry
from agentcall_tools.sql import Sql, SqlError

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE orders (
  id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers (id), total REAL
);
CREATE INDEX by_customer ON orders (customer);
CREATE VIEW spent AS SELECT customer, sum(total) AS total FROM orders GROUP BY customer;
INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bo');
INSERT INTO orders VALUES (1, 1, 10.5), (2, 1, 2), (3, 2, NULL);
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop #1?.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
    return path


@pytest.fixture
def shop(file: Path) -> Sql:
    return Sql(f"sqlite:///{file}")


async def test_the_tables_are_told_as_they_were_made(shop: Sql) -> None:
    told = await shop.list_tables()
    assert "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL)" in told
    assert "CREATE VIEW spent" in told


async def test_a_query_gives_its_rows(shop: Sql, file: Path) -> None:
    query = "SELECT name, total FROM customers LEFT JOIN spent ON customer = id ORDER BY name;"
    answer = "name | total\nAnn | 12.5\nBo | NULL\n(2 rows)"
    assert await shop.query_database(query) == answer
    assert await Sql(file).query_database(query) == answer


async def test_values_are_shown_in_one_short_line(shop: Sql) -> None:
    query = "SELECT 'a\nb' AS x, zeroblob(10) AS y, printf('%.2000c', 'z') AS z"
    shown = await shop.query_database(query)
    assert shown == f"x | y | z\na\\nb | <10 bytes> | {'z' * 500}...\n(1 row)"


@each_row(
    "query",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5) SELECT i FROM n",
        "VALUES (1), (2)",
        "SELECT value FROM json_each('[1, 2]')",
        "EXPLAIN QUERY PLAN SELECT * FROM orders",
        "SELECT row_number() OVER (ORDER BY id) FROM orders",
        "-- a comment\nSELECT 1",
    ],
)
async def test_what_only_reads_is_run(shop: Sql, query: str) -> None:
    assert "row" in await shop.query_database(query)


@each_row(
    "query",
    [
        "DELETE FROM orders",
        "INSERT INTO orders VALUES (9, 1, 1)",
        "UPDATE orders SET total = 0",
        "REPLACE INTO orders VALUES (1, 1, 1)",
        "DROP TABLE orders",
        "CREATE TABLE x (y)",
        "CREATE TEMP TABLE x (y)",
        "ALTER TABLE orders ADD COLUMN x",
        "CREATE INDEX x ON orders (total)",
        "ATTACH DATABASE '/tmp/other.db' AS other",
        "ATTACH DATABASE ':memory:' AS other",
        "DETACH DATABASE main",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON",
        "PRAGMA journal_mode = WAL",
        "VACUUM",
        "VACUUM INTO '/tmp/agentcall-vacuum.db'",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT x",
        "REINDEX",
        "ANALYZE",
        "SELECT load_extension('/tmp/x.so')",
        "SELECT fts3_tokenizer('simple')",
        "WITH x AS (SELECT 1) DELETE FROM orders",
        "SELECT 1; DELETE FROM orders",
        "SELECT * FROM pragma_database_list",
        "EXPLAIN DELETE FROM orders",
    ],
)
async def test_what_does_more_than_read_is_refused(shop: Sql, file: Path, query: str) -> None:
    before = file.read_bytes()
    with pytest.raises(SqlError, match=r"\w+ \w+"):
        await shop.query_database(query)
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name]


COUNTING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000)"
HEAVY = [
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    f"{COUNTING} SELECT count(*) FROM n a, n b, n c, n d",
    "SELECT length(printf('%.*c', 1000000000, 'x'))",
]


@pytest.mark.parametrize("query", HEAVY)
async def test_a_query_is_ended_at_its_time(file: Path, query: str) -> None:
    with pytest.raises(SqlError, match=r"took over 0\.3 seconds; narrow it down"):
        await asyncio.wait_for(Sql(file, seconds=0.3).query_database(query), 60)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python's sqlite3 has no limits before 3.11")
@each_row(
    "query",
    [
        "SELECT zeroblob(1000000000)",
        "SELECT hex(zeroblob(9000000))",
        "WITH RECURSIVE n(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM n) SELECT x FROM n",
        "SELECT 'a' LIKE '" + "%a" * 500 + "'",
        "SELECT " + "(" * 200 + "1" + ")" * 200,
    ],
)
async def test_a_value_that_grows_too_large_is_refused(shop: Sql, query: str) -> None:
    with pytest.raises(SqlError, match=r"too big|too complex|too large|parser stack|Expression"):
        await shop.query_database(query)


async def test_many_rows_are_cut_and_said_so(file: Path) -> None:
    many = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT i FROM n"
    )
    text = await Sql(file, rows=3).query_database(many)
    assert text == (
        "i\n1\n2\n3\n(the first 3 rows; there are more: narrow the query down or count)"
    )
    wide = f"SELECT printf('%.499c', 'x') FROM ({many})"
    text = await Sql(file, rows=1000).query_database(wide)
    assert len(text) < 21_000
    assert "(the first 40 rows; there are more" in text


@each_row(
    ("query", "words"),
    [
        ("SELECT nam FROM customers", "no such column: nam"),
        ("SELECT * FROM custmers", "no such table: custmers"),
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("", "query has 1 to"),
        ("x" * 20_001, "got 20001"),
    ],
)
async def test_an_error_of_the_query_is_the_databases_own(
    shop: Sql, query: str, words: str
) -> None:
    with pytest.raises(SqlError, match=words):
        await shop.query_database(query)


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("this is no database, only a text that is long enough" * 10)
    with pytest.raises(SqlError, match="not a database"):
        await Sql(tmp_path / "a.db").list_tables()


async def test_a_database_that_another_program_writes_to_is_read(shop: Sql, file: Path) -> None:
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO customers VALUES (3, 'Cy')")
        writer.commit()
        writer.execute("INSERT INTO customers VALUES (4, 'Di')")
        assert "3" in await shop.query_database("SELECT count(*) FROM customers")


async def test_an_empty_database_has_no_tables(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    assert await Sql(tmp_path / "a.db").list_tables() == "the database has no tables"


async def test_full_text_search_is_reading(file: Path, shop: Sql) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE VIRTUAL TABLE notes USING fts5 (body)")
        connection.execute("INSERT INTO notes VALUES ('buy milk')")
        connection.commit()
    found = await shop.query_database("SELECT body FROM notes WHERE notes MATCH 'milk'")
    assert found == "body\nbuy milk\n(1 row)"


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite:///http://x"])
def test_a_database_that_is_not_known_is_an_error_of_the_program(url: str) -> None:
    with pytest.raises(ValueError, match="is not a supported database"):
        Sql(url)


@pytest.mark.parametrize("url", ["sqlite:///missing.db", "missing.db", "/", "sqlite:///:memory:"])
def test_a_file_that_is_not_there_is_an_error_of_the_program(url: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no database file"):
        Sql(url)


def test_the_tools_are_marked_as_what_they_are(shop: Sql) -> None:
    registry = ToolRegistry(shop)
    assert set(registry.names) == {"list_tables", "query_database"}
    for found in registry:
        assert (found.options.read_only, found.options.untrusted, found.options.idempotent) == (
            True,
        ) * 3


FUNCTIONS = """
CREATE FUNCTION hit() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION "Hit me"() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION twice(int) RETURNS int STABLE LANGUAGE sql AS $$ SELECT 2 * $1 $$;
CREATE FUNCTION touched(orders) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION joined(int, int) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE OPERATOR <~> (LEFTARG = int, RIGHTARG = int, FUNCTION = joined);
CREATE AGGREGATE gathered(int) (SFUNC = joined, STYPE = int);
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION paired(text) RETURNS pair LANGUAGE sql AS $$ SELECT (1, 2)::pair $$;
CREATE CAST (text AS pair) WITH FUNCTION paired(text);
CREATE SCHEMA audit;
CREATE FUNCTION audit.length(text) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
GRANT USAGE ON SCHEMA audit TO reader, writer;
"""

PLACES = [
    Path("/usr/local/bin"),
    Path("/usr/bin"),
    *sorted(Path("/usr/lib/postgresql").glob("*/bin")),
]
BIN = next((place for place in reversed(PLACES) if (place / "initdb").exists()), None)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a server of our own, without a port, as its superuser."""
    if BIN is None:
        pytest.skip("PostgreSQL is not installed")
    psycopg = pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="agentcall-sql-"))  # short, for the path of its socket
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, "nobody")
    made = [BIN / "initdb", "-D", folder / "data", "-U", "boss", "-A", "trust", "--no-sync"]
    subprocess.run([*map(str, made)], check=True, capture_output=True, cwd=folder, **user)  # type: ignore[call-overload]
    quiet = [
        "-c",
        "listen_addresses=",
        "-c",
        "fsync=off",
        "-c",
        f"unix_socket_directories={folder}",
    ]
    server = subprocess.Popen(
        [str(BIN / "postgres"), "-D", str(folder / "data"), *quiet],
        stderr=subprocess.DEVNULL,
        cwd=folder,
        **user,  # type: ignore[arg-type]
    )
    url = f"postgresql://boss@/postgres?host={quote(str(folder))}"
    try:
        for _ in range(300):
            try:
                psycopg.connect(url).close()
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SCHEMA.replace("REAL", "float8"))
            connection.execute("CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader, writer")
            connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO writer")
            connection.execute("GRANT ALL ON SCHEMA public TO writer")
            connection.execute("CREATE SEQUENCE counter; GRANT ALL ON counter TO writer")
            connection.execute(FUNCTIONS)
        yield url
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def written(postgres: str) -> Sql:
    """As a role that may write, so that what holds it back is not the role."""
    return Sql(postgres.replace("boss@", "writer@"))


def snapshot_of(postgres: str) -> list[tuple[object, ...]]:
    import psycopg

    with psycopg.connect(postgres) as connection:
        found = connection.execute(
            "SELECT relname::text, relkind::text FROM pg_class WHERE relnamespace = "
            "'public'::regnamespace UNION ALL SELECT customer::text, total::text FROM orders "
            "UNION ALL SELECT 'counter', is_called::text FROM counter "
            "UNION ALL SELECT 'objects', count(*)::text FROM pg_largeobject_metadata ORDER BY 1, 2"
        )
        return found.fetchall()


@pytest.mark.postgres
async def test_postgres_tells_its_tables(postgres: str) -> None:
    told = await Sql(postgres.replace("boss@", "reader@")).list_tables()
    assert "table customers (id integer, name text, PRIMARY KEY (id))" in told
    assert "FOREIGN KEY (customer) REFERENCES customers(id)" in told
    assert "view spent (customer integer, total double precision)" in told


@pytest.mark.postgres
@each_row(
    ("query", "shown"),
    [
        (
            "SELECT name, total FROM customers LEFT JOIN spent ON customer = id ORDER BY 1;",
            "name | total\nAnn | 12.5\nBo | NULL\n(2 rows)",
        ),
        ("SELECT 1, 2 -- comment", "?column? | ?column?\n1 | 2\n(1 row)"),
        ("SELECT '100%', ARRAY[1, 2], '{\"a\": 1}'::jsonb, true, 'x'::bytea",
         ("?column? | array | jsonb | ?column? | bytea\n"
          "100% | {1,2} | {\"a\": 1} | true | \\x78\n(1 row)")),
        ("VALUES (1), (2)", "column1\n1\n2\n(2 rows)"),
        ("WITH x AS (SELECT 1 AS a) TABLE x", "a\n1\n(1 row)"),
        ("SELECT * FROM customers WHERE false", "id | name\n(0 rows)"),
        ("SELECT repeat('x', 1000000)", f"repeat\n{'x' * 500}...\n(1 row)"),
    ],
)  # fmt: skip
async def test_postgres_gives_the_rows_of_a_query(written: Sql, query: str, shown: str) -> None:
    assert await written.query_database(query) == shown


@pytest.mark.postgres
@each_row(
    "query",
    [
        "DELETE FROM orders",
        "INSERT INTO orders VALUES (9, 1, 1) RETURNING *",
        "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone",
        "SELECT * INTO copied FROM orders",
        "CREATE TABLE x (y int)",
        "DROP TABLE orders",
        "TRUNCATE orders",
        "SELECT 1; DELETE FROM orders",
        "SELECT 1; COMMIT; DELETE FROM orders",
        "COMMIT",
        "ROLLBACK",
        "SET TRANSACTION READ WRITE",
        "SET statement_timeout = 0",
        "RESET ALL",
        "DO $$ BEGIN DELETE FROM orders; END $$",
        "CALL x()",
        "COPY orders TO PROGRAM 'touch /tmp/agentcall-pg'",
        "COPY orders TO STDOUT",
        "LISTEN x",
        "PREPARE x AS DELETE FROM orders",
        "EXPLAIN ANALYZE DELETE FROM orders",
        "SELECT nextval('counter')",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/agentcall-pg')",
        "SELECT * FROM orders FOR UPDATE",
        "SELECT 1) AS q; DELETE FROM orders; SELECT (1",
        "SELECT 1) AS q(c0) UNION SELECT (2",
        "/* SELECT 1",
        "SELECT 1 \\; DELETE FROM orders",
        ") SELECT 1",
    ],
)
async def test_postgres_refuses_what_does_more_than_read(
    postgres: str, written: Sql, query: str
) -> None:
    before = snapshot_of(postgres)
    with pytest.raises(SqlError, match=r"\w+ \w+"):
        await written.query_database(query)
    assert snapshot_of(postgres) == before
    assert not Path("/tmp/agentcall-pg").exists()


@pytest.mark.postgres
@each_row(
    "query",
    [
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
        "SELECT pg_cancel_backend(1)",
        "SELECT PG_Cancel_Backend (1)",
        'SELECT "pg_cancel_backend"(1)',
        'SELECT pg_catalog."pg_cancel_backend" (1)',
        "SELECT pg_cancel_backend/* x */(1)",
        "SELECT pg_cancel_backend -- x\n(1)",
        "SELECT '\"' || pg_cancel_backend(1) || '\"'",
        "SELECT $a$ ' $a$, pg_cancel_backend(1)",
        "SELECT E'\\'', pg_cancel_backend(1)",
        'SELECT U&"pg\\005fcancel\\005fbackend"(1)',
        "SELECT (SELECT pg_cancel_backend(pid)) FROM pg_stat_activity",
        "SELECT 1 WHERE pg_cancel_backend(1)",
        "SELECT * FROM generate_series(1, 2) ORDER BY pg_cancel_backend(1)",
        "SELECT * FROM pg_ls_dir('.')",
        "WITH x AS MATERIALIZED (SELECT pg_cancel_backend(1)) SELECT 1 FROM x",
        "SELECT CASE WHEN true THEN pg_reload_conf() END",
        "SELECT pg_rotate_logfile()",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_stat_reset()",
        "SELECT pg_switch_wal()",
        "SELECT pg_create_restore_point('x')",
        "SELECT pg_logical_emit_message(false, 'a', 'b')",
        "SELECT pg_export_snapshot()",
        "SELECT setval('counter', 1)",
        "SELECT nextval('counter')",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT pg_read_binary_file('x')",
        "SELECT pg_stat_file('x')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT query_to_xml('SELECT pg_cancel_backend(1)', true, true, '')",
        "SELECT * FROM ts_stat('SELECT pg_cancel_backend(1)::text::tsvector')",
        "SELECT hit()",
        "SELECT public.hit()",
        'SELECT "Hit me"()',
        "SELECT orders.touched FROM orders",
        "SELECT (o).touched FROM orders o",
        "SELECT 1 <~> 2",
        "SELECT gathered(id) FROM orders",
        "SELECT gathered(id) OVER () FROM orders",
        "SELECT 'x'::text::pair",
        "SELECT CAST('x'::text AS pair)",
        "SELECT audit.length('x')",
        "SELECT audit . /* x */ length('x')",
        "SELECT audit.--x\nlength('x')",
        'SELECT "audit"."length"(\'x\')',
    ],
)
async def test_postgres_refuses_functions_that_may_have_effects(written: Sql, query: str) -> None:
    with pytest.raises(SqlError, match=r"may have effects, and a query is read-only|are not taken"):
        await written.query_database(query)


@pytest.mark.postgres
@each_row(
    "query",
    [
        "SELECT count(*), sum(total), avg(total), string_agg(id::text, ',') FROM orders",
        "SELECT now(), current_date, clock_timestamp() > now() - interval '1 day', random() < 2",
        "SELECT lower(name), upper(name), length(name), name ILIKE 'a%' FROM customers",
        "SELECT date_trunc('month', now()), extract(year FROM now()), to_char(now(), 'YYYY')",
        "SELECT jsonb_agg(c), row_to_json(c) FROM customers c GROUP BY c",
        "SELECT pg_size_pretty(pg_total_relation_size('orders')), pg_relation_size('orders')",
        "SELECT gen_random_uuid() IS NOT NULL, md5('x'), coalesce(NULL, 1), greatest(1, 2)",
        "SELECT row_number() OVER (ORDER BY id), lag(total) OVER (ORDER BY id) FROM orders",
        "SELECT unnest(ARRAY[1, 2]), generate_series(1, 2), regexp_replace('a', 'a', 'b')",
        "SELECT length(c.name), lower(c.name) FROM customers c",
        "SELECT twice(id), 'pg_terminate_backend' AS word FROM orders",
        "SELECT id AS hit, id AS system FROM orders ORDER BY hit",
        "SELECT * FROM information_schema.tables WHERE table_schema = 'public'",
        "SELECT query, state FROM pg_stat_activity",
    ],
)
async def test_postgres_runs_functions_that_only_compute(written: Sql, query: str) -> None:
    assert "row" in await written.query_database(query)


@pytest.mark.postgres
async def test_a_function_may_be_allowed(postgres: str) -> None:
    url = postgres.replace("boss@", "reader@")
    assert "1" in await Sql(url, functions=["hit"]).query_database("SELECT hit()")


@pytest.mark.postgres
@pytest.mark.parametrize("query", ["SELECT lo_create(0)", "SELECT lo_from_bytea(0, 'x')"])
async def test_postgres_undoes_what_a_function_did(postgres: str, written: Sql, query: str) -> None:
    before = snapshot_of(postgres)
    try:
        await written.query_database(query)
    except SqlError as refusal:  # from version 16 on
        assert "read-only" in str(refusal)  # noqa: PT017
    assert snapshot_of(postgres) == before


@pytest.mark.postgres
async def test_postgres_refuses_a_superuser(postgres: str) -> None:
    with pytest.raises(SqlError, match=r"is a superuser.*connect as a role that may only SELECT"):
        await Sql(postgres).query_database("SELECT 1")


@pytest.mark.postgres
async def test_postgres_ends_a_query_at_its_time(postgres: str) -> None:
    slow = Sql(postgres.replace("boss@", "reader@"), seconds=0.3)
    for query in ("SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 10000000000)"):
        with pytest.raises(SqlError, match=r"took over 0\.3 seconds"):
            await slow.query_database(query)


@pytest.mark.postgres
async def test_postgres_cuts_many_rows(postgres: str) -> None:
    few = Sql(postgres.replace("boss@", "reader@"), rows=2)
    text = await few.query_database("SELECT * FROM generate_series(1, 1000000)")
    assert text.startswith("generate_series\n1\n2\n(the first 2 rows; there are more")


@pytest.mark.postgres
async def test_postgres_says_what_is_wrong_with_a_query(written: Sql) -> None:
    with pytest.raises(SqlError, match='column "nam" does not exist; Perhaps you meant'):
        await written.query_database("SELECT nam FROM customers")


@pytest.mark.postgres
async def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    absent = Sql("postgresql://reader:canary@127.0.0.1:9/shop")
    with pytest.raises(SqlError, match="refused") as caught:
        await absent.query_database("SELECT 1")
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(absent._database)


@pytest.mark.processes
def test_without_the_package_the_words_say_what_to_install() -> None:
    program = (
        "import sys, asyncio\n"
        "sys.modules['psycopg'] = None\n"
        "from agentcall_tools.sql import Sql\n"
        "asyncio.run(Sql('postgresql://a@127.0.0.1/b').query_database('SELECT 1'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "PostgreSQL needs psycopg" in done.stderr
    assert "Install the extra 'postgres': pip install" in done.stderr
