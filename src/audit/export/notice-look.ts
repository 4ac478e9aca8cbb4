import type { AuditEventInput } from '../event/event.ts';
import type { Look } from '../witness.ts';

interface NoticeRow {
  readonly notice_id: string;
  readonly export_id: string;
  readonly stage: string;
  readonly at_ms: string;
  readonly login: string;
  readonly client_addr: string | null;
  readonly format: string;
  readonly from_at: Date | null;
  readonly to_at: Date | null;
  readonly output: string;
  readonly rows: string | null;
  readonly bytes: string | null;
  readonly sha256: string | null;
  readonly signer: string | null;
}

const COLUMNS = `notice_id, export_id, stage, at_ms, login, client_addr, format, from_at, to_at, output, rows, bytes, sha256,
  signer`;

/** A number of a bigint column; not there when it is null or beyond what a double counts exactly. */
const countOf = (text: string | null): number | undefined => {
  const count = Number(text ?? Number.NaN);
  return Number.isSafeInteger(count) ? count : undefined;
};

const eventOf = (row: NoticeRow): AuditEventInput => ({
  type: 'audit.exported',
  id: row.notice_id,
  at_ms: Number(row.at_ms),
  subject: { actor: row.login, client_addr: row.client_addr ?? undefined },
  data: {
    export_id: row.export_id,
    stage: row.stage,
    format: row.format,
    from: row.from_at?.toISOString(),
    to: row.to_at?.toISOString(),
    output: row.output,
    rows: countOf(row.rows),
    bytes: countOf(row.bytes),
    sha256: row.sha256 ?? undefined,
    signer: row.signer ?? undefined,
  },
});

/**
 * Readers' notices of exports, up to 100 at a look: each is recorded as `audit.exported` under the notice's id. A notice that
 * is recorded twice, by two writers, is one event: same id, same content.
 */
export const exportLook = (record: (event: AuditEventInput) => Promise<unknown>): Look => ({
  name: 'notices of exports',
  run: async (client) => {
    const { rows } = await client.query<NoticeRow>(`select ${COLUMNS} from audit.next_exports()`);
    await Promise.all(rows.map((row) => record(eventOf(row))));
  },
});
