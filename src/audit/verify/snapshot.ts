import type pg from 'pg';

/** Name of the connections in `pg_stat_activity`. */
export const VERIFY_APPLICATION = 'sallyport-audit-verify';

/** Begins to read on a fresh connection, as of now or in a snapshot that another connection has exported and holds. */
export const beginReading = async (client: pg.Client, snapshot?: string): Promise<void> => {
  await client.query("set timezone to 'UTC'");
  // Many partitions look expensive; each of the short queries would be compiled.
  await client.query('set jit to off');
  // A connection waits while others work, and must keep its snapshot.
  await client.query('set idle_in_transaction_session_timeout to 0');
  await client.query('begin transaction isolation level repeatable read read only');
  if (snapshot !== undefined)
    await client.query(`set transaction snapshot ${client.escapeLiteral(snapshot)}`);
};

/** Lets other connections read the same snapshot for as long as this one keeps its transaction. */
export const exportSnapshot = async (client: pg.ClientBase): Promise<string> => {
  const { rows } = await client.query<{ id: string }>('select pg_export_snapshot() as id');
  const [row] = rows;
  if (row === undefined) throw new Error('the database exported no snapshot');
  return row.id;
};
