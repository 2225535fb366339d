"""Names and hashes of the networks that ship with the project, for those who only ask which they are: no torch."""

#: of the video net: architecture and training set, as an id of features says it
VIDEO_NAME = "i3d-embedded"
VIDEO_SHA256 = "d8034553d97c8c7ae171736e4c084fb9101cc27ef57c6ad1ba59d885ef7fb1b3"
IMAGE_SHA256 = "cd4808a681366d2483437ec31d26ae1f2b30acda49cb4a1808db6f94ce595424"
#: of the judge's network
JOINTS_SHA256 = "01f378ce84c2ee933be6b69daa12d1ea9f9141fefdd27b4e03799348932657b5"
#: of the head that sees fingers
FINGERS_SHA256 = "79e39f1e60126154c56ca6a0268087891608461202098b79a148ceb6bf554632"
