/** `node:http`, without what an import of it brings along: an import reads every export, among them getters that load a
 * WebSocket client, which takes 30 ms and several megabytes. */
export const http = process.getBuiltinModule('node:http')
