-- Where connectors reach a gateway: `host:port`, with a space between two.
ALTER TABLE gateways ADD COLUMN addresses TEXT NOT NULL DEFAULT '';
