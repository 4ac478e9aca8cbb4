/** Serves gRPC, WebSocket and HTTP/2, each at a port of its own. */
export const API_HOST = 'api.corp.example';
