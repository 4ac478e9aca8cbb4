import type { Clock } from '../../runtime/index.ts';
import type { AuditKey } from '../seal/audit-key.ts';
import { CSV_HEADER, csvLine } from './csv.ts';
import { EvidenceWriter } from './evidence-writer.ts';
import type { Manifest } from './manifest.ts';
import { type NoticeOptions, withNotices, WrittenText } from './notice.ts';
import { ocsfLine } from './ocsf.ts';
import { opaLogLine } from './opa-log.ts';
import { type ExportedEvent, type ExportInterval, ExportSnapshot } from './snapshot.ts';

interface LineFormat {
  readonly header: string;
  /** Undefined: the format has no place for this event. */
  readonly line: (event: ExportedEvent) => string | undefined;
}

/** Formats that say what the events say, for other tools; they prove nothing. */
const LINE_FORMATS = {
  ocsf: { header: '', line: ocsfLine },
  opa: { header: '', line: opaLogLine },
  csv: { header: CSV_HEADER, line: csvLine },
} as const satisfies Record<string, LineFormat>;

export type LineFormatName = keyof typeof LINE_FORMATS;

export const LINE_FORMAT_NAMES = Object.keys(LINE_FORMATS) as readonly LineFormatName[];

export interface ExportProgress {
  /** Events read, and in all. */
  readonly events: number;
  readonly totalEvents: number;
}

interface ExportOptions {
  /** Of a login that may read the tables: `audit_verify`, or the owner. */
  readonly databaseUrl: string;
  readonly interval: ExportInterval;
  readonly onProgress?: ((done: ExportProgress) => void) | undefined;
  /** How the trail is told of it; undefined: not at all. */
  readonly notice: NoticeOptions | undefined;
}

const withSnapshot = async <T>(
  databaseUrl: string,
  use: (snapshot: ExportSnapshot) => Promise<T>,
): Promise<T> => {
  const snapshot = await ExportSnapshot.open(databaseUrl);
  try {
    return await use(snapshot);
  } finally {
    await snapshot.close();
  }
};

/**
 * Exports the events of an interval as lines, in the order in which they were stored, and returns how many. Memory does not
 * grow with the interval: `write` is awaited before more is read.
 * @throws AppError ERR_AUDIT_DATABASE, ERR_AUDIT_EXPORT_UNRECORDED, and what `write` throws
 */
export const exportLines = (
  o: ExportOptions & {
    readonly format: LineFormatName;
    readonly write: (text: string) => Promise<void>;
  },
): Promise<number> =>
  withNotices(o, (tellEnd) =>
    withSnapshot(o.databaseUrl, async (snapshot) => {
      const format: LineFormat = LINE_FORMATS[o.format];
      const totalEvents = await snapshot.countEvents(o.interval);
      const text = new WrittenText(o.write);
      let read = 0;
      let rows = 0;
      await text.write(format.header);
      for await (const group of snapshot.batches(o.interval, false)) {
        const lines: string[] = [];
        for (const event of group.flatMap((batch) => batch.events)) {
          read += 1;
          const line = event.within ? format.line(event) : undefined;
          if (line !== undefined) lines.push(line);
        }
        rows += lines.length;
        await text.write(lines.join(''));
        o.onProgress?.({ events: read, totalEvents });
      }
      await tellEnd({ rows, bytes: text.bytes, sha256: text.sha256() });
      return rows;
    }),
  );

/**
 * Exports evidence into an empty directory: whole batches with their seals, chain by chain, and a manifest signed by `key`.
 * @throws AppError ERR_AUDIT_DATABASE, ERR_AUDIT_EXPORT_WRITE, ERR_AUDIT_EXPORT_UNRECORDED; ERR_AUDIT_EXPORT_UNSOUND when
 * the store does not hold what was sealed: nothing is signed then
 */
export const exportEvidence = (
  o: ExportOptions & { readonly directory: string; readonly key: AuditKey; readonly clock: Clock },
): Promise<Manifest> =>
  withNotices({ ...o, format: 'jsonl', signer: o.key.signer }, (tellEnd) =>
    withSnapshot(o.databaseUrl, async (snapshot) => {
      const totalEvents = await snapshot.countEvents(o.interval);
      const login = await snapshot.login();
      const writer = new EvidenceWriter(o.directory);
      try {
        for await (const group of snapshot.batches(o.interval, true)) {
          await writer.write(group);
          o.onProgress?.({ events: writer.events, totalEvents });
        }
        const nowMs = o.clock.nowMs();
        return await writer.finish({ key: o.key, interval: o.interval, login, nowMs, tellEnd });
      } finally {
        await writer.abandon();
      }
    }),
  );
