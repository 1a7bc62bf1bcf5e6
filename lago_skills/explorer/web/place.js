window.lagoPlace = "service";
