import { join } from 'node:path';
import { addSigner, createAuditRoot, EXPORTER_KIND, openAuditKey } from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import type { TestPostgres } from '../support/postgres.ts';
import { auditDatabase, decision, ending, openLog } from './audit-fixture.ts';
import { RECHECK_VECTOR, VECTORS } from './event-vectors.ts';

const FLUSH_MS = 20_000;
/** More than one batch. */
const DECISIONS = 230;

/** A secret of each shape that emitters must never let into an event. */
export const PLANTED = [
  'planted-secret-in-a-token-member',
  'planted-secret-in-a-connection-string',
  'planted-secret-in-a-signature',
] as const;

/** A principal that a spreadsheet would run and a terminal obey. */
export const HOSTILE = '=cmd|" /C calc"!A0\u001b[2J\r\nsecond line,\u202e';

export interface Site {
  /** URL of the database's owner. */
  readonly owner: string;
  readonly trustFile: string;
  /** Of the audit root, hex. */
  readonly root: string;
  /** Key that signs exports, vouched for as such. */
  readonly exportKeyFile: string;
  readonly chains: readonly string[];
}

/** A site with a database, a trust file, and two chains of its agent that hold an event of every type. */
export const makeSite = async (server: TestPostgres, directory: string): Promise<Site> => {
  const { owner, writer } = await auditDatabase(server);
  const files = { rootKeyFile: join(directory, 'root.pem'), trustFile: join(directory, 'trust.json') };
  const { root } = createAuditRoot(files);
  const vouch = (file: string, kind: string): void => {
    const { publicKey } = openAuditKey(file);
    addSigner({ ...files, publicKey, kind, name: kind, clock: systemClock });
  };
  const exportKeyFile = join(directory, 'export-key.pem');
  vouch(join(directory, 'audit-key.pem'), 'agent');
  vouch(exportKeyFile, EXPORTER_KIND);
  const chains: string[] = [];
  for (const part of [0, 1]) {
    const log = await openLog(directory, { database: { url: writer } });
    chains.push(log.chainId);
    for (const event of [...VECTORS, RECHECK_VECTOR]) log.note({ ...event, at_ms: undefined });
    for (let n = 0; n < DECISIONS; n += 1) log.note(decision(part * 1000 + n, n % 10 !== 0));
    log.note({ ...ending(part), subject: { ...ending(part).subject, principal: HOSTILE } });
    log.note({
      type: 'admin.action',
      subject: {},
      data: {
        action: 'planted',
        detail: {
          token: PLANTED[0],
          text: `Endpoint=sb://x;SharedAccessKey=${PLANTED[1]};SharedAccessSignature sig=${PLANTED[2]}`,
        },
      },
    });
    await log.flush(FLUSH_MS);
    await log.record(ending(part * 1000 + 1));
    await log.flush(FLUSH_MS);
    await log.close();
  }
  return { owner, trustFile: files.trustFile, root, exportKeyFile, chains };
};
