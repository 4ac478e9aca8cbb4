import type { AuditLog, AuditLogOptions } from './audit-log.ts';
import { SpooledLog } from './spooled-log.ts';

/**
 * Opens (or makes) a spool: recovers it, seals an old chain's tail as its final batch, opens a new chain that
 * names the old one, records streams that a crash cut, and starts delivery. Resolves when the chain's first
 * event is on disk.
 * @throws AppError ERR_AUDIT_SPOOL_OPEN, ERR_AUDIT_SPOOL_IN_USE, ERR_AUDIT_KEY_INVALID
 */
export const openAuditLog = (options: AuditLogOptions): Promise<AuditLog> => SpooledLog.open(options);
