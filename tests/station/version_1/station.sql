BEGIN TRANSACTION;
CREATE TABLE checks (
	product VARCHAR NOT NULL, 
	content VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	PRIMARY KEY (product, content)
);
INSERT INTO "checks" VALUES('stripes','4f5264b7fa1c9cfe2bfec3612a48c86c','good');
INSERT INTO "checks" VALUES('stripes','2158b921964c34e47f11c8bad1f5acbc','good');
INSERT INTO "checks" VALUES('stripes','1f21ea3152ed8946bba1b1dd1a826a61','good');
INSERT INTO "checks" VALUES('stripes','7d9c020826fc784e83a34d8c88696f82','good');
INSERT INTO "checks" VALUES('stripes','2c2a35ecbb94a39c961ec8eff283f117','good');
INSERT INTO "checks" VALUES('stripes','c9071d46a6128ee51bded74a7b4ae7d5','good');
INSERT INTO "checks" VALUES('stripes','a50bf238fcf05a2edac484b847373df3','good');
INSERT INTO "checks" VALUES('stripes','8700327254f3e504e1d2ab7ac1f51fc9','good');
INSERT INTO "checks" VALUES('squares','2b4222eafc7579f332766c454bc5406d','good');
INSERT INTO "checks" VALUES('squares','3e8e74e5b7f71a42a1f90b932ece3101','good');
INSERT INTO "checks" VALUES('squares','141e830660c1d51e2529e23322a904c4','good');
INSERT INTO "checks" VALUES('squares','f515cff95233e3a1422427e3869e447f','good');
INSERT INTO "checks" VALUES('squares','ff527f7e4f16014c7f9ac7b17b821f58','good');
INSERT INTO "checks" VALUES('squares','dfe98636f506a870f3efc770cd70b3ee','good');
INSERT INTO "checks" VALUES('squares','6fc3064a3d43807da5b2fd9fb85ed85c','good');
INSERT INTO "checks" VALUES('squares','a9c5704e3a60df70b1dda8ec5570ba55','good');
INSERT INTO "checks" VALUES('stripes','d516bc1a0997bb49dc5bdd4333ce1fa7','defective');
CREATE TABLE drift (
	product VARCHAR NOT NULL, 
	state JSON NOT NULL, 
	PRIMARY KEY (product)
);
INSERT INTO "drift" VALUES('stripes','{"blob": "bc0c0890b263a0c50c19767767eadc2f", "seen": 2, "score_up": 0.3861120368365025, "look_up": 1.7928932188134525, "alert": null}');
CREATE TABLE feedback (
	id INTEGER NOT NULL, 
	at VARCHAR NOT NULL, 
	product VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	content VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "feedback" VALUES(1,'2026-12-01T12:07:56+00:00','stripes','defective','3dae5d5d27d1734c05b6f6e15c9d9350');
CREATE TABLE history (
	id INTEGER NOT NULL, 
	at VARCHAR NOT NULL, 
	verb VARCHAR NOT NULL, 
	product VARCHAR NOT NULL, 
	"before" INTEGER, 
	"after" INTEGER, 
	promoted BOOLEAN NOT NULL, 
	report JSON NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "history" VALUES(1,'2026-12-01T12:07:56+00:00','learn','stripes',NULL,1,1,'{"notes": ["only 8 training images: thresholds will be rough.", "image metrics not available: no test images.", "pixel metrics not available: no test images."], "changes": [{"product": "stripes", "good": 8, "defective": 0, "false_alarms": [null, 0], "caught": [null, 0], "strayed": [null, 0], "shift": null, "auroc": [null, null]}]}');
INSERT INTO "history" VALUES(2,'2026-12-01T12:07:56+00:00','learn','squares',1,2,1,'{"notes": ["only 8 training images: thresholds will be rough.", "image metrics not available: no test images.", "pixel metrics not available: no test images."], "changes": [{"product": "stripes", "good": 8, "defective": 0, "false_alarms": [0, 0], "caught": [0, 0], "strayed": [0, 0], "shift": 0.0, "auroc": [null, null]}, {"product": "squares", "good": 8, "defective": 0, "false_alarms": [null, 0], "caught": [null, 0], "strayed": [null, 0], "shift": null, "auroc": [null, null]}]}');
INSERT INTO "history" VALUES(3,'2026-12-01T12:07:56+00:00','threshold','stripes',2,3,1,'{"changes": [{"product": "stripes", "good": 8, "defective": 1, "false_alarms": [0, 0], "caught": [1, 1], "strayed": [0, 0], "shift": 0.0, "auroc": [1.0, 1.0]}, {"product": "squares", "good": 8, "defective": 0, "false_alarms": [0, 0], "caught": [0, 0], "strayed": [0, 0], "shift": 0.0, "auroc": [null, null]}]}');
CREATE TABLE inspections (
	id INTEGER NOT NULL, 
	at VARCHAR NOT NULL, 
	file VARCHAR NOT NULL, 
	content VARCHAR NOT NULL, 
	product VARCHAR NOT NULL, 
	verdict VARCHAR NOT NULL, 
	score FLOAT NOT NULL, 
	threshold FLOAT NOT NULL, 
	confidence FLOAT NOT NULL, 
	seconds FLOAT NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "inspections" VALUES(1,'2026-12-01T12:07:56+00:00','parts/stripes/0.png','dae71f4657500618d01281ed16517355','stripes','good',1.47428207397460937495e+01,1.90819244384765625e+01,7.78742025681318426237e-08,3.4683449994190596044e-03,3);
INSERT INTO "inspections" VALUES(2,'2026-12-01T12:07:56+00:00','parts/bad.png','3dae5d5d27d1734c05b6f6e15c9d9350','stripes','defective',3.19712963104248046883e+01,1.90819244384765625e+01,1.0,3.13729800018336391076e-03,3);
CREATE TABLE members (
	version INTEGER NOT NULL, 
	product VARCHAR NOT NULL, 
	place INTEGER NOT NULL, 
	blob VARCHAR NOT NULL, 
	record JSON NOT NULL, 
	PRIMARY KEY (version, product), 
	FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "members" VALUES(1,'stripes',0,'bc0c0890b263a0c50c19767767eadc2f','{"detector": "patchcore", "options": {"bank": "0.01MB"}, "geometry": {"size": [64, 64], "fit": "stretch", "region": null}, "bits": 16, "images": 8, "false_alarms": 0.01, "value": null}');
INSERT INTO "members" VALUES(2,'stripes',0,'bc0c0890b263a0c50c19767767eadc2f','{"detector": "patchcore", "options": {"bank": "0.01MB"}, "geometry": {"size": [64, 64], "fit": "stretch", "region": null}, "bits": 16, "images": 8, "false_alarms": 0.01, "value": null}');
INSERT INTO "members" VALUES(2,'squares',1,'6c0c82021dc75f1e1b378091d834c209','{"detector": "patchcore", "options": {"bank": "0.01MB"}, "geometry": {"size": [64, 64], "fit": "stretch", "region": null}, "bits": 16, "images": 8, "false_alarms": 0.01, "value": null}');
INSERT INTO "members" VALUES(3,'stripes',0,'bc0c0890b263a0c50c19767767eadc2f','{"detector": "patchcore", "options": {"bank": "0.01MB"}, "geometry": {"size": [64, 64], "fit": "stretch", "region": null}, "bits": 16, "images": 8, "false_alarms": 0.2, "value": null}');
INSERT INTO "members" VALUES(3,'squares',1,'6c0c82021dc75f1e1b378091d834c209','{"detector": "patchcore", "options": {"bank": "0.01MB"}, "geometry": {"size": [64, 64], "fit": "stretch", "region": null}, "bits": 16, "images": 8, "false_alarms": 0.01, "value": null}');
CREATE TABLE meta (
	"key" VARCHAR NOT NULL, 
	value VARCHAR, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema','1');
INSERT INTO "meta" VALUES('station','e9180d9544404d15a4db65817c16b11d');
CREATE TABLE versions (
	id INTEGER NOT NULL, 
	made_at VARCHAR NOT NULL, 
	verb VARCHAR NOT NULL, 
	product VARCHAR NOT NULL, 
	"before" INTEGER, 
	PRIMARY KEY (id)
);
INSERT INTO "versions" VALUES(1,'2026-12-01T12:07:56+00:00','learn','stripes',NULL);
INSERT INTO "versions" VALUES(2,'2026-12-01T12:07:56+00:00','learn','squares',1);
INSERT INTO "versions" VALUES(3,'2026-12-01T12:07:56+00:00','threshold','stripes',2);
CREATE INDEX ix_inspections_content ON inspections (content);
COMMIT;
