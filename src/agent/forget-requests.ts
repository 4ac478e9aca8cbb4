import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { AuditLog } from '../audit/index.ts';
import {
  type Clock,
  foreignCodeOf,
  type Logger,
  makePrivateDirectory,
  messageOf,
  writeFileAtomically,
} from '../runtime/index.ts';
import type { RevocationSet } from './revocations.ts';

const FILE_NAME = 'revocations.forget.json';

const requestSchema = z.object({ key_id: z.string(), reason: z.string(), asked_at: z.string() });
const fileSchema = z.object({ v: z.literal(1), requests: z.array(requestSchema) });

type Request = z.output<typeof requestSchema>;

const readRequests = (path: string): readonly Request[] => {
  try {
    return fileSchema.parse(JSON.parse(readFileSync(path, 'utf8'))).requests;
  } catch (error) {
    if (foreignCodeOf(error) === 'ENOENT') return [];
    throw error;
  }
};

/**
 * Asks the agent of this state directory to forget a revocation, for a relay node that lied. It does so when it starts or
 * is sent SIGHUP, after it has recorded that it will.
 */
export const askToForget = (stateDir: string, keyId: string, reason: string, clock: Clock): void => {
  makePrivateDirectory(stateDir);
  const path = join(stateDir, FILE_NAME);
  const others = readRequests(path).filter(({ key_id }) => key_id !== keyId);
  const request: Request = { key_id: keyId, reason, asked_at: new Date(clock.nowMs()).toISOString() };
  writeFileAtomically(path, `${JSON.stringify({ v: 1, requests: [...others, request] })}\n`);
};

/**
 * Forgets what an operator asked to be forgotten. Each is on disk in the audit spool first; when that cannot be, nothing
 * is forgotten and the request stays.
 */
export const forgetAsAsked = async (
  stateDir: string,
  deps: {
    readonly revocations: RevocationSet;
    readonly audit: AuditLog;
    readonly logger: Logger;
    readonly namespace: string;
    readonly agent: string;
  },
): Promise<void> => {
  const path = join(stateDir, FILE_NAME);
  const { revocations, audit, logger, namespace, agent } = deps;
  try {
    for (const { key_id, reason, asked_at } of readRequests(path)) {
      const entry = revocations.get(key_id);
      if (entry === undefined) continue;
      await audit.record({
        type: 'admin.action',
        subject: { namespace, agent, key_id, actor: `operator of ${agent}` },
        data: {
          action: 'revocation.forgotten',
          detail: { told_by: entry.nodes, revocation_id: entry.revocation_id, asked_at },
          reason,
        },
      });
      revocations.forget(key_id);
      logger.warn({ key_id, told_by: entry.nodes, reason }, 'revocation forgotten, as an operator asked');
    }
    rmSync(path, { force: true });
  } catch (error) {
    logger.error(
      { path, cause: messageOf(error) },
      'revocations were not forgotten; tried again with SIGHUP',
    );
  }
};
